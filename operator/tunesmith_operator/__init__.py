"""The operator: turns RLHFPipelines into FineTuneJobs, and these into RayJobs and evaluation Jobs, and tells in their
status how they fare.

`reconcile` decides (pure functions, no I/O), `builders` make the objects, `kube` speaks to the API server, and
`controller` joins them. All that it may do to a cluster:

    apiGroups         resources                 verbs
    tunesmith.dev     rlhfpipelines             list, watch, delete
    tunesmith.dev     rlhfpipelines/status      patch
    tunesmith.dev     finetunejobs              get, list, watch, create, patch, delete
    tunesmith.dev     finetunejobs/status       patch
    ray.io            rayjobs                   get, list, watch, create, delete
    batch             jobs                      get, list, watch, create, delete
    ""                configmaps                get, list, watch, create, delete
    ""                pods                      list, watch
    ""                persistentvolumeclaims    get
    ""                events                    create
"""
