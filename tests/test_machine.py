"""Memory and processors are those that this process may use, whatever the machine has."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from napari_shiftseg import machine
from napari_shiftseg.machine import cores, free_memory, total_memory
from napari_shiftseg.network import choose_device

GIB = 1 << 30
NONE = str(0x7FFFFFFFFFFFF000)  # what version 1 says where there is no limit

V1 = "30 23 0:28 {root} /sys/fs/cgroup/{name} rw,relatime shared:9 - cgroup cgroup rw,{name}\n"
V2 = "41 31 0:38 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A made machine of 64 GiB, of which 40 are available, and files of the system as `write(path, text)` makes them."""
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    monkeypatch.setitem(
        sys.modules, "psutil", SimpleNamespace(virtual_memory=lambda: SimpleNamespace(total=64 * GIB, available=40 * GIB))
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(str(text), encoding="utf-8")

    return write


def group_1(write, folder, limit, used, inactive=0):
    write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
    write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
    write(f"{folder}/memory.stat", f"cache 5\ninactive_file 1\ntotal_inactive_file {inactive}\n")


def group_2(write, folder, limit, used, inactive=0):
    write(f"{folder}/memory.max", f"{limit}\n")
    write(f"{folder}/memory.current", f"{used}\n")
    write(f"{folder}/memory.stat", f"anon 5\ninactive_file {inactive}\nactive_file 7\n")


def test_without_limits_the_machine_answers(system):
    assert (free_memory(), total_memory(), cores()) == (40 * GIB, 64 * GIB, 16)


@pytest.mark.parametrize(
    ("limit", "used", "inactive", "free"),
    [
        (8 * GIB, 3 * GIB, 0, 5 * GIB),
        (8 * GIB, 3 * GIB, 2 * GIB, 7 * GIB),  # files that nobody used lately are given away
        (8 * GIB, 9 * GIB, 0, 0),
        (500 * GIB, 3 * GIB, 0, 40 * GIB),  # more than there is
        ("max", 3 * GIB, 0, 40 * GIB),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_bounds_it(system, version, limit, used, inactive, free):
    if version == 1:
        system("proc/self/cgroup", "5:pids:/other\n4:memory:/job\n0::/\n")
        system("proc/self/mountinfo", V1.format(root="/", name="pids") + V1.format(root="/", name="memory"))
        group_1(system, "sys/fs/cgroup/memory/job", NONE if limit == "max" else limit, used, inactive)
    else:
        system("proc/self/cgroup", "0::/job\n")
        system("proc/self/mountinfo", V2.format(root="/"))
        group_2(system, "sys/fs/cgroup/job", limit, used, inactive)
    assert free_memory() == free
    assert total_memory() == (64 * GIB if limit == "max" else min(limit, 64 * GIB))
    assert choose_device("cpu").free == free


def test_the_groups_around_count_too(system):
    """A batch system limits the job, and the process runs in a step of it that has no limit of its own."""
    system("proc/self/cgroup", "0::/slurm/job_7/step_0\n")
    system("proc/self/mountinfo", V2.format(root="/"))
    group_2(system, "sys/fs/cgroup/slurm/job_7/step_0", "max", GIB)
    group_2(system, "sys/fs/cgroup/slurm/job_7", 6 * GIB, 2 * GIB)
    assert free_memory() == 4 * GIB
    system("sys/fs/cgroup/slurm/job_7/step_0/memory.high", 2 * GIB)  # above it the system makes the process wait
    assert (free_memory(), total_memory()) == (GIB, 2 * GIB)


def test_groups_of_version_1_that_are_no_hierarchy_do_not_count(system):
    system("proc/self/cgroup", "4:memory:/outer/inner\n")
    system("proc/self/mountinfo", V1.format(root="/", name="memory"))
    group_1(system, "sys/fs/cgroup/memory/outer/inner", NONE, GIB)
    group_1(system, "sys/fs/cgroup/memory/outer", 4 * GIB, GIB)
    assert free_memory() == 3 * GIB
    system("sys/fs/cgroup/memory/outer/memory.use_hierarchy", "0\n")
    assert free_memory() == 40 * GIB


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/docker/abc", "/docker/abc"),  # told by its path outside, sees its own part
        ("/", "/"),  # with a name space of its own
        ("/", "/docker/abc"),  # a path that is not there inside
        ("/../..", "/"),
        ("/", "/../other"),
    ],
)
def test_a_container_sees_its_own_group_where_groups_are_mounted(system, root, path):
    system("proc/self/cgroup", f"4:cpu,memory:{path}\n0::{path}\n")
    system("proc/self/mountinfo", V2.format(root=root))
    group_2(system, "sys/fs/cgroup", 2 * GIB, GIB // 2)
    assert free_memory() == GIB * 3 // 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_limit_of_addresses_bounds_it(system, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (8 * GIB, 9 * GIB) if which == resource.RLIMIT_AS else (-1, -1))
    monkeypatch.setattr(resource, "getpagesize", lambda: 4096)
    system("proc/self/statm", f"{3 * GIB // 4096} 50 20 1 0 30 0\n")
    assert (free_memory(), total_memory()) == (5 * GIB, 8 * GIB)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/job/cpu.max": "max 100000"}, 16),
        ({"sys/fs/cgroup/job/cpu.max": "400000 100000"}, 4),
        ({"sys/fs/cgroup/job/cpu.max": "250000 100000"}, 3),
        ({"sys/fs/cgroup/job/cpu.max": "10000 100000"}, 1),
        ({"sys/fs/cgroup/job/cpu.max": "max 100000", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"sys/fs/cgroup/job/cpu.max": "6400000 100000"}, 16),
    ],
)
def test_time_of_processors_that_a_group_grants(system, files, expected):
    system("proc/self/cgroup", "0::/job\n")
    system("proc/self/mountinfo", V2.format(root="/"))
    for path, text in files.items():
        system(path, text + "\n")
    assert cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, 16), (300000, 3)])
def test_time_of_processors_in_version_1(system, quota, expected):
    system("proc/self/cgroup", "1:cpu,cpuacct:/job\n")
    system("proc/self/mountinfo", V1.format(root="/", name="cpu"))
    system("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", f"{quota}\n")
    system("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert cores() == expected


def test_other_systems_have_no_such_files(system, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (free_memory(), total_memory(), cores()) == (40 * GIB, 64 * GIB, 6)


def test_without_psutil_the_system_itself_is_asked(system, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert (free_memory(), total_memory()) == (0, 0)  # not known
    system("proc/meminfo", "MemTotal:       4000 kB\nMemFree:         100 kB\nMemAvailable:   3000 kB\nHugePages_Total:   0\n")
    assert (free_memory(), total_memory()) == (3000 << 10, 4000 << 10)
    system("proc/self/cgroup", "0::/\n")
    system("proc/self/mountinfo", V2.format(root="/"))
    group_2(system, "sys/fs/cgroup", 2 << 20, 1 << 20)
    assert (free_memory(), total_memory()) == (1 << 20, 2 << 20)


def test_rooms_of_a_bare_machine_need_no_psutil():
    """> `network`, `instances` and `analysis` run where there is only Python, numpy, scipy, scikit-image and torch"""
    code = (
        "import sys; sys.modules['psutil'] = None\n"
        "import napari_shiftseg.geometry, napari_shiftseg.instances, napari_shiftseg.analysis\n"
        "from napari_shiftseg.network import choose_device, free_memory\n"
        "print(choose_device('cpu').free > 0 or sys.platform != 'linux', free_memory() >= 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "True"]), done.stderr


def test_a_real_limit_is_seen():
    """The machine of this test, with a limit of its own."""
    resource = pytest.importorskip("resource")
    limit = 3 * GIB // 2
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
        "from napari_shiftseg.machine import free_memory, total_memory\n"
        f"print(0 < free_memory() < {limit}, total_memory() <= {limit})"
    )
    if not os.path.exists("/proc/self/statm") or resource.getrlimit(resource.RLIMIT_AS)[1] not in (-1, resource.RLIM_INFINITY):
        pytest.skip("needs Linux without a limit")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/self/cgroup", "none\n\n0::/job\n"),
        ("proc/self/mountinfo", "none\n\n30 23 - cgroup2\n30 23 0:26 / /other rw - cgroup2 cgroup2\n" + V2.format(root="/")),
        ("sys/fs/cgroup/job/memory.stat", "\ninactive_file\ninactive_file x\n"),
    ],
)
def test_lines_that_a_sandbox_writes_otherwise_are_passed_over(system, path, text):
    system("proc/self/cgroup", "0::/job\n")
    system("proc/self/mountinfo", V2.format(root="/"))
    group_2(system, "sys/fs/cgroup/job", 8 * GIB, 3 * GIB)
    system(path, text)
    assert (free_memory(), cores()) == (5 * GIB, 16)


def test_where_psutil_may_read_nothing_nothing_is_known(system, monkeypatch):
    def refused():
        raise PermissionError("/proc/meminfo")

    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(virtual_memory=refused))
    assert free_memory() == total_memory() == 0
