// tools/bpftrace/*.bt, by the real bpftrace on the real kernel: each looks on while a process does a known piece of work.
// ctest: lines
// ctest: frame-pointers
// ctest: needs:bpftrace bpftrace
// ctest: needs:nsenter util-linux
// ctest: no-asan the scripts look at any process alike
// ctest: no-tsan the same
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <filesystem>
#include <fstream>
#include <linux/capability.h>
#include <sched.h>
#include <sstream>
#include <string>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <vector>

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] void computes_for(std::chrono::nanoseconds d) {
    const auto end = std::chrono::steady_clock::now() + d;
    while (std::chrono::steady_clock::now() < end) {}
}
[[gnu::noinline]] void leaks_one(mpg::chan<int> never) {
    mpg::go([=] { (void)never.recv(); });
    asm volatile("");
}
[[gnu::noinline]] void is_slow_and_sleeps() {
    computes_for(50ms);
    mpg::sleep_for(1ms);
    asm volatile("");
}

constexpr int leaked = 7, ended = 40, rounds = 60;

/// What the scripts see. Two Ps.
void work() {
    mpg::chan<int> never, there;
    for (int i = 0; i < leaked; ++i) leaks_one(never);
    mpg::wait_group g;
    for (int i = 0; i < ended; ++i) g.go([] {});
    g.go([&] {
        for (int i = 0; i < rounds; ++i) (void)there.recv();
    });
    for (int i = 0; i < rounds; ++i) there.send(i);
    g.go(is_slow_and_sleeps);
    g.wait();
    auto stats = [] { return mpg::runtime::current()->stats(); };
    while (stats().steals == 0) { // one P has all of them, the other one comes for some
        for (int i = 0; i < 8; ++i) g.go([] { computes_for(1ms); });
        g.wait();
    }
    while (stats().handoffs == 0) { // the thread of a task that is locked to it gets the P of whoever finds it
        g.go([] {
            mpg::thread_lock here;
            mpg::yield();
        });
        g.wait();
    }
    for (auto d = 30ms; stats().preemptions == 0; d *= 2) { // a slice is CPU time, of which a busy machine gives little
        for (int i = 0; i < 4; ++i) g.go([d] { computes_for(d); });
        g.wait();
    }
    g.go([] { computes_for(20ms); });
    g.wait();
    for (int i = 0; i < 4; ++i)
        g.go([] { // shorter than a slice, and no wait between
            for (int k = 0; k < 5; ++k) {
                computes_for(8ms);
                mpg::yield();
            }
        });
    g.wait();
}

/// bpftrace needs it. Where nobody has mounted it: in a mount namespace of this process's own, where bpftrace is to come, too.
void mount_tracefs() {
    if (::access("/sys/kernel/tracing/events", F_OK) == 0) return;
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", "/sys/kernel/tracing", "tracefs", 0, nullptr) != 0)
        std::perror("tracefs");
}

/// A process that begins the work when it is told, says when it has done it, and waits.
///
/// It has a map of symbols as those who compile at run time write one: where libbcc (0.26, what bpftrace 0.17 asks for names) finds
/// none for a process, it closes a descriptor at random, mostly one of bpftrace's maps.
struct specimen {
    ::pid_t pid = -1;
    int tells = -1, done = -1;
    specimen() {
        int go[2], back[2];
        if (::pipe(go) != 0 || ::pipe(back) != 0) return;
        std::fflush(nullptr);
        pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            mount_tracefs();
            (void)!::write(back[1], "x", 1);
            char byte;
            if (::read(go[0], &byte, 1) != 1) ::_exit(1);
            mpg::options o;
            o.procs = 2;
            mpg::run(o, [&] {
                work();
                while (mpg::runtime::current()->stats().tasks > leaked + 1) mpg::yield(); // their ends come after their last words
                (void)!::write(back[1], "x", 1);
                ::pause();
            });
        }
        std::ofstream(symbols()) << "1000 1 nothing\n";
        ::close(go[0]);
        ::close(back[1]);
        tells = go[1];
        done = back[0];
        char byte;
        EXPECT_EQ(::read(done, &byte, 1), 1);
    }
    ~specimen() {
        ::close(tells);
        ::close(done);
        if (pid <= 0) return;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        std::filesystem::remove(symbols());
    }
    std::string symbols() const { return "/tmp/perf-" + std::to_string(pid) + ".map"; }
};

/// Why this machine does not let the tests look at other processes; "" where it does.
std::string no_privilege() {
    ::__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    ::__user_cap_data_struct mine[2]{};
    ::syscall(SYS_capget, &header, mine);
    if ((mine[CAP_SYS_ADMIN / 32].effective >> (CAP_SYS_ADMIN % 32) & 1) == 0) return "no CAP_SYS_ADMIN";
    if (::access("/sys/bus/event_source/devices/uprobe", F_OK) != 0) return "a kernel without uprobes";
    return "";
}
#define MPG_NEEDS_PRIVILEGE()                                                                                         \
    if (std::string why = no_privilege(); !why.empty()) GTEST_SKIP() << "bpftrace is not permitted here: " << why

/// What a script says of the whole work: all probes are attached before it begins, and it is told to end after it, as by Ctrl-C.
std::string look_on(const std::string& script, const std::string& arguments = "") {
    specimen s;
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string pid = std::to_string(s.pid);
    const std::string command = "exec 2>&1; echo $$; exec nsenter --mount --target " + pid + " bpftrace -B line -p " + pid +
                                " " MPG_SOURCE_DIR "/tools/bpftrace/" + script + ".bt " + program + " " + arguments;
    std::FILE* f = ::popen(command.c_str(), "r");
    std::string text;
    int bpftrace = 0;
    EXPECT_EQ(std::fscanf(f, "%d\n", &bpftrace), 1);
    for (char line[4096]; std::fgets(line, sizeof line, f);) {
        text += line;
        if (std::string(line) != "attached\n") continue;
        char byte;
        EXPECT_EQ(::write(s.tells, "x", 1), 1);
        EXPECT_EQ(::read(s.done, &byte, 1), 1);
        ::kill(bpftrace, SIGINT);
    }
    EXPECT_EQ(::pclose(f), 0) << text;
    EXPECT_NE(text.find("\nattached\n"), std::string::npos) << text;
    return text;
}
/// Lines that begin so.
std::vector<std::string> lines(const std::string& text, const std::string& begin) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);)
        if (line.compare(0, begin.size(), begin) == 0) out.push_back(line);
    return out;
}
/// The value of "@name: n", or the largest one of "@name[key]: n".
long long value(const std::string& text, const std::string& name) {
    long long most = -1;
    for (const std::string& line : lines(text, "@" + name)) most = std::max(most, std::atoll(line.c_str() + line.rfind(": ") + 2));
    return most;
}
/// How many values a histogram has.
long long values(const std::string& text, const std::string& name) {
    long long sum = 0;
    std::istringstream in(text);
    std::string line;
    while (std::getline(in, line) && line.compare(0, name.size() + 2, "@" + name + ":") != 0) {}
    while (std::getline(in, line) && !line.empty() && line[0] == '[') sum += std::atoll(line.c_str() + line.find(')') + 1);
    return sum;
}

TEST(bpftrace, leaks_shows_who_created_what_has_not_ended) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("leaks");
    std::size_t by_leaks_one = 0;
    for (std::size_t at = 0; (at = text.find("leaks_one(", at)) != std::string::npos; ++at) ++by_leaks_one;
    EXPECT_EQ(by_leaks_one, static_cast<std::size_t>(leaked)) << text;
    EXPECT_EQ(lines(text, "@alive[").size(), leaked + 1u) << text; // and main
    EXPECT_EQ(value(text, "created"), value(text, "ended") + leaked + 1) << text;
    EXPECT_GE(value(text, "ended"), ended) << text;
}
TEST(bpftrace, runqlat_measures_from_the_wake_up_to_the_run) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("runqlat");
    EXPECT_GE(values(text, "run_queue_latency_ns"), rounds / 2) << text; // of each round one waits at least every other time
}
TEST(bpftrace, offcpu_tells_waits_by_reason) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("offcpu");
    auto waits = [&](mpg::sched::wait_reason r) { return values(text, "waited_ns[" + std::to_string(static_cast<int>(r)) + "]"); };
    using mpg::sched::wait_reason;
    EXPECT_GE(waits(wait_reason::chan_recv) + waits(wait_reason::chan_send), rounds / 2) << text;
    EXPECT_EQ(waits(wait_reason::sleep), 1) << text;
    EXPECT_GE(waits(wait_reason::wait_group), 1) << text;
    EXPECT_EQ(waits(wait_reason::mutex), 0) << text;
}
TEST(bpftrace, steals_counts_them_and_hand_offs_and_preemptions) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("steals");
    EXPECT_GE(value(text, "tasks["), 1) << text;
    EXPECT_GE(value(text, "handoffs["), 1) << text;
    EXPECT_GE(value(text, "preemptions["), 1) << text;
    EXPECT_NE(text.find("@at_once:"), std::string::npos) << text;
}
TEST(bpftrace, slow_names_who_runs_long_and_where_it_then_waits) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("slow", "5");
    const std::size_t at = text.find("is_slow_and_sleeps(");
    ASSERT_NE(at, std::string::npos) << text;
    const std::size_t head = text.rfind("task ", at);
    int task = 0, ms = 0;
    ASSERT_EQ(std::sscanf(text.c_str() + head, "task %d ran for %d ms", &task, &ms), 2) << text;
    EXPECT_GE(ms, 50) << text;
    EXPECT_NE(text.find(" ms and yielded\n"), std::string::npos) << text;
    EXPECT_NE(text.find(" ms and ended\n"), std::string::npos) << text;
    EXPECT_NE(text.find(" ms and was preempted\n"), std::string::npos) << text;
}
TEST(bpftrace, slices_put_cpu_time_down_to_tasks) {
    MPG_NEEDS_PRIVILEGE();
    const std::string text = look_on("slices");
    // Whoever else the CPUs have to do with: 50 ms of wall time is some CPU time.
    EXPECT_GE(value(text, "cpu_ns["), 5'000'000) << text;
    EXPECT_GE(value(text, "off_in_task["), 1) << text;
    EXPECT_GE(lines(text, "@cpu_ns[").size(), static_cast<std::size_t>(ended)) << text;
}

} // namespace
