// How many CPUs this process may use.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <unistd.h>

namespace mpg::sched {

/// The whole of a small file; "" when it cannot be read. (<fstream> would cost a static program half a megabyte.)
inline std::string read_file(const std::string& path) {
    std::string text;
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return text;
    char part[1024];
    for (ssize_t n; (n = ::read(fd, part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(n));
    ::close(fd);
    return text;
}

/// Quota / period of one cgroup directory, of version 2 ("QUOTA PERIOD", "max PERIOD") or 1; 0: no limit there.
inline double cgroup_cpus(const std::string& directory) {
    double quota = 0, period = 0;
    if (std::string max = read_file(directory + "/cpu.max"); !max.empty()) {
        if (std::sscanf(max.c_str(), "%lf %lf", &quota, &period) != 2) return 0; // "max"
    } else {
        quota = std::atof(read_file(directory + "/cpu.cfs_quota_us").c_str()); // -1: no limit
        period = std::atof(read_file(directory + "/cpu.cfs_period_us").c_str());
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

/// The tightest quota of the process's cgroup and all its ancestors; 0: no limit. `root` and `self` are for tests.
inline double cgroup_quota(const std::string& root = "/sys/fs/cgroup", const std::string& self = "/proc/self/cgroup") {
    double least = 0;
    std::string groups = read_file(self);
    for (std::size_t at = 0, end; at < groups.size(); at = end + 1) {
        end = std::min(groups.find('\n', at), groups.size());
        std::string line = groups.substr(at, end - at); // ID:CONTROLLERS:PATH
        auto first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        std::string base = root;
        if (!controllers.empty()) { // version 1: one hierarchy per controller
            if (("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
            base += "/" + controllers;
        }
        for (;;) {
            double here = cgroup_cpus(base + path);
            if (here > 0 && (least == 0 || here < least)) least = here;
            auto slash = path.find_last_of('/');
            if (path.empty() || slash == std::string::npos) break;
            path.resize(slash);
        }
    }
    return least;
}

/// CPUs of the affinity mask, whatever their number.
inline unsigned affinity_cpus() noexcept {
    for (std::size_t cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t* set = CPU_ALLOC(cpus);
        if (!set) return 1;
        std::size_t bytes = CPU_ALLOC_SIZE(cpus);
        int rc = ::sched_getaffinity(0, bytes, set);
        unsigned n = rc == 0 ? static_cast<unsigned>(CPU_COUNT_S(bytes, set)) : 0;
        CPU_FREE(set);
        if (rc == 0) return std::max(1u, n);
    }
    return 1;
}

/// $MPG_PROCS, else the affinity mask capped by the quota, rounded up.
inline unsigned default_procs() {
    if (const char* text = std::getenv("MPG_PROCS")) {
        char* end = nullptr;
        long n = std::strtol(text, &end, 10);
        if (end != text && *end == 0 && n >= 1 && n <= 4096) return static_cast<unsigned>(n);
    }
    unsigned cpus = affinity_cpus();
    double quota = cgroup_quota();
    if (quota > 0) {
        auto whole = static_cast<unsigned>(quota);
        if (whole < quota) ++whole;
        cpus = std::clamp(whole, 1u, cpus);
    }
    return cpus;
}

} // namespace mpg::sched
