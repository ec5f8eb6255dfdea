"""What a reader must know of the machine to judge a figure."""
import os
import platform
import re
import subprocess
from pathlib import Path


def said_by(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def first_line(text):
    return text.splitlines()[0].strip() if text else None


def cpu_model():
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def read(path):
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def debian_version(package):
    return said_by("dpkg-query", "-W", "-f", "${Version}", package)


def compiler(build):
    """(compiler, flags), as CMake has it."""
    cache = dict(re.findall(r"^(CMAKE_CXX_\w+|CMAKE_BUILD_TYPE):\w+=(.*)$", read(build / "CMakeCache.txt") or "", re.M))
    program = cache.get("CMAKE_CXX_COMPILER", "c++")
    kind = cache.get("CMAKE_BUILD_TYPE", "")
    flags = f"{cache.get('CMAKE_CXX_FLAGS', '')} {cache.get('CMAKE_CXX_FLAGS_' + kind.upper(), '')}".strip()
    return first_line(said_by(program, "--version")) or program, flags


def commit(repository):
    return said_by("git", "-C", repository, "describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def rival_versions():
    tokio = debian_version("librust-tokio-dev")
    found = {"go": said_by("go", "version"), "tokio": tokio and f"{tokio} (Debian), {said_by('rustc', '--version')}",
             "boost.fiber": debian_version("libboost-fiber1.81-dev"), "onetbb": debian_version("libtbb-dev"),
             "nginx": debian_version("nginx-light") or debian_version("nginx"), "wrk": debian_version("wrk")}
    return {name: version for name, version in found.items() if version}


def describe(build, repository):
    cxx, flags = compiler(build)
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "governor": governor or "none (no cpufreq: a virtual machine, as a rule)",
        "idle driver": read("/sys/devices/system/cpu/cpuidle/current_driver") or "none",
        "memory": first_line(read("/proc/meminfo")),
        "compiler": cxx,
        "flags": flags,
        "commit": commit(repository),
        "rivals": rival_versions(),
    }


def load_average():
    return os.getloadavg()[0]


def cpu_times():
    """(ticks that the hypervisor gave to others, all ticks), of all CPUs since the start."""
    fields = [int(x) for x in (read("/proc/stat") or "cpu 0").splitlines()[0].split()[1:9]]
    return (fields[7] if len(fields) > 7 else 0), sum(fields)


def steal_since(before):
    stolen, total = (now - then for now, then in zip(cpu_times(), before))
    return stolen / total if total else 0.0


def slug(machine):
    """A name of the machine for a folder: 'xeon-8375c-2cpu'."""
    words = re.sub(r"\(.*?\)|@.*|\b(intel|amd|cpu|processor|\d+-core)\b", " ", machine["cpu"].lower())
    words = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:40].strip("-")
    return f"{words or 'unknown'}-{machine['cpus']}cpu"
