"""Host paths that lead to SGX devices or to the quoting daemon, past every check on resources.

A pod that mounts such a path gets enclaves, the provision device or quotes without asking for them, so no scheduler
counts it and no policy sees it.

Source: Linux v6.12 Documentation/arch/x86/sgx.rst (``/dev/sgx_*``), the out-of-tree drivers (``/dev/isgx``,
``/dev/sgx/``, Graphene's ``/dev/gsgx``), Intel SGX PSW (``/var/run/aesmd``), FHS 3.0 (``/var/run`` is ``/run``),
udev (``/dev/char/major:minor`` is a second name of every character device), proc(5) (``/proc/pid/root``).
"""

import re
from posixpath import normpath

_GUARDED = re.compile(r"(/dev/sgx[^/]*|/dev/isgx|/dev/gsgx|/dev/char|(?:/var)?/run/aesmd)(/.*)?", re.DOTALL)
_ABOVE = {"/": "every SGX device", "/dev": "/dev/sgx*", "/run": "/run/aesmd", "/var": "/var/run/aesmd"}
_PLUGIN_FOLDER = "/var/lib/kubelet/device-plugins"
_PROCESS_ROOTS = re.compile(r"(?:/proc/[^/]+/(?:task/[^/]+/)?(?:root|cwd)(?=/|$))+")


def guarded_relation(path: str) -> str | None:
    """How the host path ``path`` stands to what is guarded, in words; None when it has nothing to do with it.

    Guarded are ``/dev/sgx*``, ``/dev/isgx``, ``/dev/gsgx``, ``/dev/char`` and ``/var/run/aesmd`` (also as
    ``/run/aesmd``), with all that lies above or below them.
    """
    plain = resolved(path)
    if match := _GUARDED.fullmatch(plain):
        return f"is below {match[1]}" if match[2] else f"is {match[1]}"
    above = _ABOVE.get("/run" if plain == "/var/run" else plain)
    return f"is above {above}" if above else None


def is_aesmd(path: str) -> bool:
    """Whether ``path`` is the quoting daemon's folder or lies in it: the pod wants quotes, not devices."""
    match = _GUARDED.fullmatch(resolved(path))
    return match is not None and match[1].endswith("/aesmd")


def reaches_plugin_folder(path: str) -> bool:
    """Whether ``path`` is the kubelet's device plugin folder, above it or below it.

    Whoever writes there can register as a device plugin and hand out any device of the node, the provision device
    among them. ``/`` and ``/var`` are guarded already.

    Source: Kubernetes "Device Plugins" (registration over the folder's ``kubelet.sock``).
    """
    plain = resolved(path).rstrip("/") + "/"
    return plain.startswith(_PLUGIN_FOLDER + "/") or (_PLUGIN_FOLDER + "/").startswith(plain)


def resolved(path: str) -> str:
    """``path`` made absolute and plain: slashes, ``.``, ``..`` and a process's links to the host's root resolved.

    Other symbolic links cannot be known without the host.
    """
    plain = normpath("/" + path.lstrip("/"))
    # All of them in one step: whoever writes a pod may write a path of a megabyte.
    match = _PROCESS_ROOTS.match(plain)
    return (plain[match.end() :] or "/") if match else plain
