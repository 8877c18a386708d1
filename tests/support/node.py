"""A node whose pods are containers by podman, confined as their manifests say.

Folders of the node are below `root`, so those of this machine are left alone. Programs are those of this
environment.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from support.charts import Object, pod_of
from support.clients import Steered
from support.podman import Podman

_OF_THE_MACHINE: Final = ("/usr", "/lib", "/lib64", "/bin", "/etc/ssl", "/etc/passwd", "/etc/group")
_OF_AN_IMAGE: Final = ("tmp", "var/tmp", "home", "root", "run", "opt", "srv", "mnt")
_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_BIN: Final = str(Path(sys.executable).parent)


class Node:
    """`folder` is a temporary one with a short name. Clients see `shared` at the same path."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "n"
        self.root.mkdir()
        (folder / "podman").mkdir()
        self._podman = Podman(folder / "podman")
        self.shared = self._podman.shared
        self._pods: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self._pods:
            pod.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            for pod in self._pods:
                pod.wait(timeout=20)
        self._podman.close()

    def path(self, path: str) -> Path:
        """Where a path of the node is."""
        return self.root / path.lstrip("/")

    def run(self, workload: Object, files: Mapping[str, Path]) -> Path:
        """Start its container; `files` are volumes that are no folders of the node. What it logs."""
        pod = pod_of(workload)
        (container,) = pod["containers"]
        name = container["name"]
        command = [*self._podman.run(name), *_confinement(pod, container)]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            source = files.get(mount["name"]) or self._volume(volume["hostPath"])
            mode = "ro" if mount.get("readOnly") else "rw"
            command += ["-v", f"{source}:{mount['mountPath']}:{mode}"]
        for variable in container.get("env", ()):
            command += ["-e", f"{variable['name']}={variable.get('value', 'node-1')}"]
        command += ["-e", f"PATH={_BIN}:/usr/bin:/bin", *self._rootfs(name)]
        command += [*container["command"], *container.get("args", ())]
        log = self.root / f"{name}.log"
        with log.open("wb") as output:
            self._pods.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )
        return log

    def ask(self, name: str, code: str) -> str:
        """What Python prints in the container of that name."""
        done = subprocess.run(
            [*self._podman.within(name), sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, environ: Mapping[str, str], mounts: Mapping[str, str], user: str) -> Steered:
        """A container that the kubelet gave `environ` and `mounts`, the node's path by its own."""
        volumes = [f"{self.path(source)}:{target}:ro" for target, source in mounts.items()]
        return self._podman.start(user=user, mounts=volumes, environ=environ)

    def _volume(self, host: Mapping[str, str]) -> Path:
        path = self.path(host["path"])
        if host["type"] != "File":
            path.mkdir(parents=True, exist_ok=True)
            for folder in (path, *path.parents):
                if folder == self.root:
                    break
                folder.chmod(0o755)
        return path

    def _rootfs(self, name: str) -> list[str]:
        rootfs = self.root / f"rootfs-{name}"
        for folder in _OF_AN_IMAGE:
            (rootfs / folder).mkdir(parents=True)
        words = []
        for path in (*_OF_THE_MACHINE, sys.base_prefix, sys.prefix, _REPOSITORY):
            if Path(path).exists():
                words += ["-v", f"{path}:{path}:ro"]
        return [*words, "--rootfs", os.fspath(rootfs)]


def _confinement(pod: Object, container: Object) -> list[str]:
    context: dict[str, Any] = container["securityContext"]
    words = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
    words += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
    words += [f"--cap-add={name}" for name in context["capabilities"].get("add", ())]
    if context["readOnlyRootFilesystem"]:
        words += ["--read-only", "--read-only-tmpfs=false"]
    if context.get("allowPrivilegeEscalation") is False:
        words += ["--security-opt=no-new-privileges"]
    if pod.get("hostPID"):
        words += ["--pid=host"]
    return words
