"""The Pod Security Standard "restricted" of Kubernetes 1.37, as a function of a pod's spec.

Written after the standard's page. A namespace that enforces the standard admits pods by the same rules.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}


def violations(pod: dict[str, Any]) -> list[str]:
    """Return what the standard forbids in this pod spec; nothing where the pod is admitted."""
    return [
        *_of_pod(pod),
        *(f"{c['name']}: {text}" for c in containers(pod) for text in _of_container(c, pod)),
    ]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        container
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in pod.get(key, [])
    ]


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    for volume in pod.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']}: {kinds.pop()}"
    context = pod.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_context(context)


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from _of_context(context)
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    around = pod.get("securityContext", {})
    if context.get("runAsNonRoot", around.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if "seccompProfile" not in context and "seccompProfile" not in around:
        yield "no seccomp profile"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']}"
    yield from _of_handlers(container)


def _of_context(context: dict[str, Any]) -> Iterator[str]:
    """Yield what is forbidden in the security context of a pod as well as in that of a container."""
    if context.get("runAsUser") == 0:
        yield "runAsUser 0"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in SECCOMP:
        yield "seccomp profile"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "AppArmor profile"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "SELinux options"


def _of_handlers(container: dict[str, Any]) -> Iterator[str]:
    lifecycle = container.get("lifecycle", {})
    handlers = [lifecycle.get("preStop", {}), lifecycle.get("postStart", {})]
    handlers += [container.get(key, {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
    for handler in handlers:
        if any(handler.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield "a probe or hook of another host"
