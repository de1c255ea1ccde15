"""The whole path on a whole cluster: images built and pushed, the chart installed, jobs trained, evaluated and deleted.

    KUBECONFIG=... REGISTRY=localhost:5000 make e2e

The cluster needs KubeRay and nodes that pull from REGISTRY. Where it has no default StorageClass, storage is a hostPath
volume, which is shared on a single node only.
"""
