"""The control plane does what the other tests here rely on."""

from contextlib import closing

import pytest

from .controlplane import ControlPlane
from .kube import Kube, KubeError, Object, eventually


def config_map(name: str, namespace: str, **metadata: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **metadata}}


def ray_job(namespace: str) -> Object:
    head = {"spec": {"containers": [{"name": "ray", "image": "example.test/ray:1"}]}}
    cluster = {"rayVersion": "2.60.0", "headGroupSpec": {"rayStartParams": {}, "template": head}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"entrypoint": "true", "rayClusterSpec": cluster},
    }


def test_namespace_is_deleted_with_its_contents(kube: Kube) -> None:
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "short-lived"}})
    kube.create(config_map("content", "short-lived"))
    kube.delete("v1", "Namespace", "short-lived")
    eventually(lambda: not kube.find("v1", "Namespace", "short-lived"), "the end of the namespace")
    assert not kube.find("v1", "ConfigMap", "content", "short-lived")


def test_owned_object_goes_with_its_owner(kube: Kube, namespace: str) -> None:
    owner = kube.create(config_map("owner", namespace))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    kube.create(config_map("owned", namespace, ownerReferences=[reference]))
    kube.create(config_map("stranger", namespace))
    kube.delete("v1", "ConfigMap", "owner", namespace)
    eventually(lambda: not kube.find("v1", "ConfigMap", "owned", namespace), "the garbage collector")
    assert kube.find("v1", "ConfigMap", "stranger", namespace)


def test_object_owned_by_a_custom_resource_goes_with_it(kube: Kube, namespace: str) -> None:
    """The garbage collector knows custom kinds from the start, not only after its next look at the API in 30 s."""
    owner = kube.create(ray_job(namespace))
    reference = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "job", "uid": owner["metadata"]["uid"]}
    kube.create(config_map("owned", namespace, ownerReferences=[reference]))
    kube.delete("ray.io/v1", "RayJob", "job", namespace)
    eventually(lambda: not kube.find("v1", "ConfigMap", "owned", namespace), "the garbage collector", seconds=10)


def test_ray_job_is_admitted_and_left_alone_without_kuberay(kube: Kube, namespace: str) -> None:
    kube.create(ray_job(namespace))
    kube.patch_status("ray.io/v1", "RayJob", "job", {"jobDeploymentStatus": "Running"}, namespace)
    job = kube.get("ray.io/v1", "RayJob", "job", namespace)
    assert job["status"]["jobDeploymentStatus"] == "Running"
    assert "finalizers" not in job["metadata"]


def test_wrong_ray_job_is_refused_with_the_field(kube: Kube, namespace: str) -> None:
    job = ray_job(namespace)
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"] = 1
    with pytest.raises(KubeError, match=r"spec\.rayClusterSpec\.headGroupSpec\.template") as refused:
        kube.create(job)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


@pytest.mark.usefixtures("kuberay")
def test_kuberay_makes_a_cluster_and_its_head_pod(kube: Kube, namespace: str) -> None:
    kube.create(ray_job(namespace))
    (cluster,) = eventually(lambda: kube.list("ray.io/v1", "RayCluster", namespace), "a RayCluster")
    (head,) = eventually(lambda: kube.list("v1", "Pod", namespace, "ray.io/node-type=head"), "the head pod")
    assert head["metadata"]["labels"]["ray.io/cluster"] == cluster["metadata"]["name"]
    assert head["spec"]["containers"][0]["image"] == "example.test/ray:1"


def test_service_account_may_do_what_its_role_says(control_plane: ControlPlane, kube: Kube, namespace: str) -> None:
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    meta = {"name": "reader", "namespace": namespace}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", **meta}
    kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    kube.create({**rbac, "kind": "Role", "metadata": meta, "rules": [rule]})
    kube.create({**rbac, "kind": "RoleBinding", "metadata": meta, "roleRef": reference, "subjects": [subject]})
    kube.create(config_map("note", namespace))

    reader = Kube(control_plane.kubeconfig_for("reader", namespace))
    assert "note" in {each["metadata"]["name"] for each in reader.list("v1", "ConfigMap", namespace)}
    with pytest.raises(KubeError, match=f"system:serviceaccount:{namespace}:reader") as refused:
        reader.delete("v1", "ConfigMap", "note", namespace)
    assert refused.value.status == 403


def test_watch_tells_what_happens(kube: Kube, namespace: str) -> None:
    created = kube.create(config_map("watched", namespace))
    kube.apply({**config_map("watched", namespace), "data": {"key": "value"}})
    kube.delete("v1", "ConfigMap", "watched", namespace)
    seen = []
    with closing(kube.watch("v1", "ConfigMap", namespace, since=created["metadata"]["resourceVersion"])) as events:
        for what, seen_object in events:
            if seen_object["metadata"]["name"] == "watched":
                seen.append((what, seen_object["data"]))
            if what == "DELETED":
                break
    assert seen == [("MODIFIED", {"key": "value"}), ("DELETED", {"key": "value"})]
