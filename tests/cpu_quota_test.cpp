// How many Ps a process gets: $MPG_PROCS, the affinity mask, and the quotas of its cgroup and of each ancestor.
#include "support.hpp"

#include <mpg/sched/cpu_quota.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>

namespace {

namespace fs = std::filesystem;

struct cpu_quota : ::testing::Test {
    fs::path root = fs::temp_directory_path() / ("mpg-cgroup-" + std::to_string(::getpid()));
    ~cpu_quota() override { fs::remove_all(root); }
    void write(const std::string& path, const std::string& text) {
        fs::create_directories((root / path).parent_path());
        std::ofstream(root / path) << text;
    }
    double quota() { return mpg::sched::cgroup_quota((root / "fs").string(), (root / "self").string()); }
};

TEST_F(cpu_quota, no_cgroup_is_no_limit) { EXPECT_EQ(quota(), 0); }

TEST_F(cpu_quota, version_2_counts_every_ancestor) {
    write("self", "0::/a/b/c\n");
    write("fs/a/b/c/cpu.max", "max 100000\n");
    EXPECT_EQ(quota(), 0);
    write("fs/a/cpu.max", "250000 100000\n");
    EXPECT_EQ(quota(), 2.5);
    write("fs/a/b/cpu.max", "50000 100000\n");
    EXPECT_EQ(quota(), 0.5);
    write("fs/cpu.max", "40000 100000\n");
    EXPECT_EQ(quota(), 0.4);
}

TEST_F(cpu_quota, version_1_counts_every_ancestor) {
    write("self", "5:memory:/m\n4:cpu,cpuacct:/a/b\n");
    write("fs/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    write("fs/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(quota(), 0);
    write("fs/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
    write("fs/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(quota(), 1.5);
}

TEST_F(cpu_quota, affinity_decides_and_the_environment_overrides) {
    ::cpu_set_t all;
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    EXPECT_EQ(mpg::sched::affinity_cpus(), static_cast<unsigned>(CPU_COUNT(&all)));
    auto procs = [] { return mpg::run([] { return mpg::runtime::current()->stats().procs; }); };
    ::unsetenv("MPG_PROCS");
    EXPECT_LE(procs(), mpg::sched::affinity_cpus());
    ::setenv("MPG_PROCS", "3", 1);
    EXPECT_EQ(procs(), 3u);
    ::setenv("MPG_PROCS", "many", 1);
    EXPECT_LE(procs(), mpg::sched::affinity_cpus());
    ::unsetenv("MPG_PROCS");

    ::cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &all)) continue;
        CPU_SET(cpu, &one);
        break;
    }
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(procs(), 1u);
    ASSERT_EQ(::sched_setaffinity(0, sizeof all, &all), 0);
}

} // namespace
