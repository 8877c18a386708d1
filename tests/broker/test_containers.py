import os
from pathlib import Path

import pytest

from furiosa.broker.containers import MOST_BYTES, UNKNOWN, container_of, of_process
from furiosa.common.views import Container

A, B, C = "a1" * 32, "b2" * 32, "c3" * 32
POD = "6d1a2b3c-0f0e-4111-8222-333344445555"
POD_ = POD.replace("-", "_")
OTHER = "00000000-1111-4222-8333-444444444444"
OTHER_ = OTHER.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"  # of a manifest in a file

KUBELET = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice"

IN_POD = Container("containerd", A, POD)
UNTOLD = Container("unknown", A, POD)

PATHS = [
    # Kubernetes, systemd driver
    (f"{BURSTABLE}/kubepods-burstable-pod{POD_}.slice/cri-containerd-{A}.scope", IN_POD),
    (
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/cri-containerd-{A}.scope",
        IN_POD,
    ),
    (f"/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope", IN_POD),
    (f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope", Container("cri-o", A, POD)),
    (
        f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope/container",
        Container("cri-o", A, POD),
    ),
    (f"/kubepods.slice/kubepods-pod{POD_}.slice/docker-{A}.scope", Container("docker", A, POD)),
    (
        f"{BURSTABLE}/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{A}.scope",
        Container("containerd", A, STATIC),
    ),
    (
        f"{BURSTABLE}/kubepods-burstable-pod{POD_}.slice/crio-conmon-{A}.scope",
        Container("unknown", "", POD),
    ),
    (
        f"{KUBELET}/kubelet-kubepods-burstable-pod{POD_}.slice/cri-containerd-{A}.scope",
        IN_POD,
    ),
    # Kubernetes, cgroupfs driver
    (f"/kubepods/burstable/pod{POD}/{A}", UNTOLD),
    (f"/kubepods/besteffort/pod{POD}/{A}", UNTOLD),
    (f"/kubepods/pod{POD}/{A}", UNTOLD),
    (f"/kubepods/burstable/pod{STATIC}/{A}", Container("unknown", A, STATIC)),
    (f"/kubepods/burstable/pod{POD}/crio-{A}", Container("cri-o", A, POD)),
    (f"/kubepods/burstable/pod{POD}/kata_overhead", Container("unknown", "", POD)),
    (f"/kubelet/kubepods/burstable/pod{POD}/{A}", UNTOLD),
    # the two drivers mixed
    (
        f"/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{A}",
        IN_POD,
    ),
    (f"/kubepods-besteffort-pod{POD_}.slice:cri-containerd:{A}", IN_POD),
    # Docker and containerd
    (f"/docker/{A}", Container("docker", A)),
    (f"/system.slice/docker-{A}.scope", Container("docker", A)),
    (f"/jobs.slice/jobs-night.slice/docker-{A}.scope", Container("docker", A)),
    (f"/k8s.io/{A}", Container("containerd", A)),
    (f"/system.slice/nerdctl-{A}.scope", Container("containerd", A)),
    # Podman
    (f"/machine.slice/libpod-{A}.scope", Container("podman", A)),
    (f"/machine.slice/libpod-{A}.scope/container", Container("podman", A)),
    (f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", Container("podman", A)),
    (f"/libpod_parent/libpod-{A}", Container("podman", A)),
    (f"/system.slice/web.service/libpod-payload-{A}", Container("podman", A)),
    (f"/system.slice/web@7.service/libpod-payload-{A}/x", Container("podman", A)),
    (f"{USER}/user.slice/libpod-{A}.scope", Container("rootless-podman", A)),
    (f"{USER}/user.slice/libpod-{A}.scope/container", Container("rootless-podman", A)),
    (
        f"{USER}/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope",
        Container("rootless-podman", A),
    ),
    (f"{USER}/app.slice/web.service/libpod-payload-{A}", Container("rootless-podman", A)),
    (f"{USER}/user.slice/docker-{A}.scope", Container("rootless-docker", A)),
    # others
    ("/lxc.payload.web/system.slice", Container("lxc", "web")),
    ("/lxc/web", Container("lxc", "web")),
    ("/machine.slice/systemd-nspawn@web.service/payload", Container("nspawn", "web")),
    ("/machine.slice/machine-web.scope", Container("machined", "web")),
    # as a broker in a container sees those beside it
    (f"/../cri-containerd-{A}.scope", Container("containerd", A)),
    (f"/../{A}", Container("unknown", A)),
    (f"/../../kubepods-burstable-pod{POD_}.slice/cri-containerd-{A}.scope", IN_POD),
    (f"/../../../kubepods-pod{POD_}.slice/crio-{A}.scope", Container("cri-o", A, POD)),
    (
        f"/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/cri-containerd-{A}.scope",
        IN_POD,
    ),
    (f"/../../pod{POD}/{A}", UNTOLD),
    (f"/../../../besteffort/pod{POD}/{A}", UNTOLD),
    (f"/../../../../kubepods/burstable/pod{POD}/{A}", UNTOLD),
    (f"/../../../..{USER}/user.slice/libpod-{A}.scope", Container("rootless-podman", A)),
    ("/../../../../system.slice/ssh.service", None),
    # in no container
    ("/", None),
    ("/init.scope", None),
    ("/user.slice/user-1000.slice/session-3.scope", None),
    (f"{USER}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope", None),
    ("/system.slice/docker.service", None),
    (f"/machine.slice/libpod-conmon-{A}.scope", None),
    ("/lxc.monitor.web", None),
]


@pytest.mark.parametrize(("path", "found"), PATHS)
def test_the_path_of_a_runtime_tells_container_and_pod(path: str, found: Container | None) -> None:
    assert container_of(f"0::{path}\n") == found


@pytest.mark.parametrize(("path", "found"), [each for each in PATHS if each[1] is not None])
@pytest.mark.parametrize(
    "below",
    [
        "/init.scope",
        f"/docker/{C}",
        f"/system.slice/docker-{C}.scope",
        f"{BURSTABLE}/kubepods-burstable-pod{OTHER_}.slice/cri-containerd-{C}.scope",
        f"/kubepods/pod{OTHER}/{C}",
        f"/container/kubepods/pod{OTHER}/{C}",
        f"/../kubepods/pod{OTHER}/{C}",
    ],
)
def test_what_a_container_makes_below_itself_changes_nothing(
    path: str, found: Container, below: str
) -> None:
    assert found is not None
    made = container_of(f"0::{path}{below}\n")
    assert made is not None
    if found.id:
        assert made == found
    else:
        assert made.pod_uid == found.pod_uid


@pytest.mark.parametrize(
    "path",
    [
        f"/home/docker/{A}",
        f"/docker/{A[:63]}",
        f"/docker/{A}0",
        f"/docker/{A.upper()}",
        f"/x{A}",
        f"/{A}",
        f"/docker-{A}.scope",
        f"/system.slice/ssh.service/docker-{A}.scope",
        f"/system.slice/ssh.service/docker/{A}",
        f"/system.slice/ssh.service/kubepods-pod{POD_}.slice:cri-containerd:{A}",
        f"/system.slice/ssh.service/kubepods/pod{POD}/{A}",
        f"/system.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope",
        f"/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope",
        f"/a.slice/b-c.slice/kubepods/pod{POD}/{A}",
        f"/kubepods/pod{POD}x/{A}",
        f"/user.slice/user-1000.slice/session-3.scope/docker-{A}.scope",
        f"/../../../../system.slice/ssh.service/pod{POD}/{A}",
        f"/sister.slice/web.service/libpod-payload-{A}",
    ],
)
def test_an_id_at_another_place_counts_for_nothing(path: str) -> None:
    found = container_of(f"0::{path}\n")
    assert found is None or (not found.pod_uid and not found.id)


@pytest.mark.parametrize(
    "made",
    [
        f"/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope",
        f"/kubepods/pod{POD}/{A}",
        f"/docker/{A}",
        f"/docker-{A}.scope",
    ],
)
def test_a_user_cannot_pass_for_a_pod_or_a_container_of_roots(made: str) -> None:
    found = container_of(f"0::{USER}{made}\n")
    assert found is None or (found.runtime.startswith("rootless-") and not found.pod_uid)


V1 = f"""\
12:memory:/docker/{A}
11:pids:/docker/{A}
2:cpu,cpuacct:/docker/{A}
1:name=systemd:/docker/{A}
"""


def test_version_1_and_hybrid_hierarchies_are_read() -> None:
    assert container_of(V1) == Container("docker", A)
    assert container_of(V1 + "0::/\n") == Container("docker", A)
    assert container_of(f"4:memory:/docker/{A}\n1:name=systemd:/\n0::/\n") == Container("docker", A)
    assert container_of(f"1:name=systemd:/\n0::/system.slice/docker-{A}.scope\n") == Container(
        "docker", A
    )


def test_version_2_and_systemd_are_asked_before_the_controllers() -> None:
    text = f"3:memory:/docker/{C}\n1:name=systemd:/docker/{B}\n0::/docker/{A}\n"
    assert container_of(text) == Container("docker", A)
    assert container_of(text.replace(f"/docker/{A}", "/")) == Container("docker", B)


def test_what_a_user_says_of_himself_comes_after_every_hierarchy_of_roots() -> None:
    text = f"0::{USER}/user.slice/libpod-{B}.scope\n1:memory:/docker/{A}\n"
    assert container_of(text) == Container("docker", A)


def test_a_hierarchy_with_a_name_of_its_own_is_nobodys_word() -> None:
    assert container_of(f"5:name=mine:/docker/{A}\n0::/\n") is None


def test_the_path_of_a_removed_cgroup_is_read() -> None:
    assert container_of(f"0::/docker/{A} (deleted)\n") == Container("docker", A)


@pytest.mark.parametrize("text", ["", "\n", "0", "0:", "0::", "0::\n", "::::", "x", "\0", "0::/.."])
def test_what_is_no_cgroup_line_is_in_no_container(text: str) -> None:
    assert container_of(text) is None


NODE = f"/docker/{B}"
KIND_POD = f"{NODE}/kubelet/kubepods/burstable/pod{POD}/{A}"


def test_a_cluster_in_a_container_is_told_apart_only_from_inside_it() -> None:
    outside, inside = "0::/system.slice/furiosa.service\n", f"0::{NODE}/init.scope\n"
    assert container_of(f"0::{KIND_POD}\n", outside) == Container("docker", B)
    assert container_of(f"0::{KIND_POD}\n", inside) == UNTOLD
    pod_of_mine = f"0::{NODE}/kubelet/kubepods/pod{OTHER}/{C}\n"
    assert container_of(f"0::{KIND_POD}\n", pod_of_mine) == UNTOLD


@pytest.mark.parametrize("path", [NODE, f"{NODE}/init.scope", f"{NODE}/system.slice/ssh.service"])
def test_who_is_where_the_broker_is_is_in_no_container(path: str) -> None:
    assert container_of(f"0::{path}\n", f"0::{NODE}/system.slice/x.service\n") is None
    assert container_of(f"0::{path}\n", f"0::/docker/{C}\n") == Container("docker", B)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/system.slice/furiosa.service\n")
    (tmp_path / "7").mkdir()
    return tmp_path


def test_a_process_is_looked_up_in_proc(proc: Path) -> None:
    (proc / "7" / "cgroup").write_text(V1)
    assert of_process(7, str(proc)) == Container("docker", A)


def test_no_such_process_is_in_no_container(proc: Path) -> None:
    assert of_process(8, str(proc)) is None


def test_a_process_that_cannot_be_told_does_not_pass_for_one_outside(proc: Path) -> None:
    (proc / "7" / "cgroup").mkdir()  # reading it fails, as for a path longer than the kernel prints
    assert of_process(7, str(proc)) == UNKNOWN


def test_a_file_larger_than_a_kernel_writes_is_not_believed(proc: Path) -> None:
    (proc / "7" / "cgroup").write_text("0::/\n" + "x" * MOST_BYTES)
    assert of_process(7, str(proc)) == UNKNOWN


def test_a_process_beside_the_tests_is_where_they_are() -> None:
    assert of_process(os.getpid()) is None
