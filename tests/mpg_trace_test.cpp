// tools/mpg-trace, against live processes.
// ctest: lines
// ctest: mpg-trace
// ctest: needs:setpriv util-linux
// ctest: needs:unshare util-linux
// ctest: no-asan the tool is not built under sanitizers, and looks at any process alike
// ctest: no-tsan the same
#include "shell.hpp"
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/time.hpp>

#include <linux/capability.h>
#include <sstream>
#include <string>
#include <sys/syscall.h>

namespace {

using namespace std::chrono_literals;

// The places where tasks are created, which the tool must name.
[[gnu::noinline]] void starts_a_hog() {
    mpg::go([] {
        for (;;) {
            const auto end = std::chrono::steady_clock::now() + 2ms;
            while (std::chrono::steady_clock::now() < end) {}
            mpg::sleep_for(2ms);
        }
    });
}
[[gnu::noinline]] void starts_a_pair(mpg::chan<int> there, mpg::chan<int> back) {
    mpg::go([=] {
        while (auto v = there.recv()) back.send(*v);
    });
    mpg::go([=] {
        for (;;) {
            for (int i = 0; i < 20; ++i) {
                there.send(i);
                (void)back.recv();
            }
            mpg::sleep_for(1ms);
        }
    });
}
[[gnu::noinline]] void leaks_one(mpg::chan<int> never) {
    mpg::go([=] { (void)never.recv(); });
}
[[gnu::noinline]] void starts_and_joins() { mpg::spawn([] { mpg::yield(); }).join(); }

/// A process that does all this until it is killed.
struct specimen {
    ::pid_t pid = -1;
    explicit specimen(bool without_capabilities = false) {
        int ready[2];
        if (::pipe(ready) != 0) return;
        std::fflush(nullptr);
        pid = ::fork();
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (without_capabilities) {
                ::__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
                ::__user_cap_data_struct none[2]{};
                if (::syscall(SYS_capset, &header, none) != 0) ::_exit(1);
            }
            mpg::options o;
            o.procs = 2;
            mpg::run(o, [&] {
                starts_a_hog();
                starts_a_pair({}, {});
                (void)!::write(ready[1], "x", 1);
                for (mpg::chan<int> never;;) {
                    leaks_one(never);
                    starts_and_joins();
                    mpg::sleep_for(5ms);
                }
            });
            ::_exit(0);
        }
        char byte;
        EXPECT_EQ(::read(ready[0], &byte, 1), 1);
        ::close(ready[0]);
        ::close(ready[1]);
    }
    ~specimen() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    std::string id() const { return std::to_string(pid); }
};

struct said {
    std::string text; // both streams
    int rc = -1;
};
said shell(const std::string& command) {
    said s;
    s.text = mpg::test::shell(command, &s.rc);
    return s;
}
const std::string tool = MPG_TRACE;

void expect_error(const said& s, const std::string& words, int rc = 1) {
    EXPECT_EQ(s.rc, rc) << s.text;
    EXPECT_NE(s.text.find("mpg-trace: "), std::string::npos) << s.text;
    EXPECT_NE(s.text.find(words), std::string::npos) << s.text;
    if (rc == 1) { // that line and no other
        EXPECT_EQ(std::count(s.text.begin(), s.text.end(), '\n'), 1) << s.text;
    }
}

/// Why this machine does not let the tests look at other processes; "" where it does. Not by what the tool says.
std::string no_privilege() {
    ::__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    ::__user_cap_data_struct mine[2]{};
    ::syscall(SYS_capget, &header, mine);
    auto have = [&](int c) { return (mine[c / 32].effective >> (c % 32) & 1) != 0; };
    if (!have(CAP_SYS_ADMIN) && !(have(CAP_BPF) && have(CAP_PERFMON))) return "neither CAP_SYS_ADMIN, nor CAP_BPF and CAP_PERFMON";
    if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) return "no /sys/kernel/btf/vmlinux";
    if (::access("/sys/bus/event_source/devices/uprobe", F_OK) != 0) return "a kernel without uprobes";
    return "";
}
#define MPG_NEEDS_PRIVILEGE()                                                                                         \
    if (std::string why = no_privilege(); !why.empty()) GTEST_SKIP() << "eBPF is not permitted here: " << why

/// The last row of the last table that ends in the name of that place: its numbers.
std::vector<double> row(const std::string& text, const std::string& site) {
    std::vector<double> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (line.find(site) == std::string::npos) continue;
        out.clear();
        std::istringstream numbers(line);
        for (double n; numbers >> n;) out.push_back(n);
    }
    return out;
}

TEST(mpg_trace_top, shows_who_runs) {
    MPG_NEEDS_PRIVILEGE();
    specimen s;
    const said top = shell(tool + " top --group --interval 0.5 --count 2 " + s.id());
    EXPECT_EQ(top.rc, 0) << top.text;
    EXPECT_NE(top.text.find(" 0 events lost"), std::string::npos) << top.text;
    const auto hog = row(top.text, "starts_a_hog"), pair = row(top.text, "starts_a_pair"), leak = row(top.text, "leaks_one");
    ASSERT_EQ(hog.size(), 5u) << top.text; // tasks, CPU %, CPU ms, queue ms, switches
    ASSERT_EQ(pair.size(), 5u) << top.text;
    ASSERT_EQ(leak.size(), 5u) << top.text;
    EXPECT_EQ(hog[0], 1) << top.text;
    EXPECT_GT(hog[2], pair[2]) << top.text;
    EXPECT_GT(hog[2], leak[2]) << top.text;
    EXPECT_LE(hog[1], 100.5) << top.text; // of one CPU: what the kernel gives others is not counted
    EXPECT_GE(pair[4], 20) << top.text;
    EXPECT_GT(pair[4], hog[4]) << top.text;
    EXPECT_LE(leak[4], leak[0]) << top.text; // each has run once, and waits
}

TEST(mpg_trace_top, names_each_task_and_what_it_waits_for) {
    MPG_NEEDS_PRIVILEGE();
    specimen s;
    const said top = shell(tool + " top --sort switches --rows 100000 --interval 0.5 --count 1 " + s.id());
    EXPECT_EQ(top.rc, 0) << top.text;
    EXPECT_NE(top.text.find("chan receive        (anonymous namespace)::leaks_one"), std::string::npos) << top.text;
    EXPECT_NE(top.text.find("mpg_trace_test.cpp:"), std::string::npos) << top.text;
    // Sorted as asked: switches never grow from row to row.
    std::istringstream in(top.text);
    double last = 1e18;
    for (std::string line; std::getline(in, line);) {
        std::istringstream numbers(line);
        double id, percent, cpu, queue, switches;
        if (!(numbers >> id >> percent >> cpu >> queue >> switches)) continue;
        EXPECT_LE(switches, last) << top.text;
        last = switches;
    }
    EXPECT_LT(last, 1e18) << top.text;
}

TEST(mpg_trace_leaks, shows_who_created_what_does_not_end) {
    MPG_NEEDS_PRIVILEGE();
    specimen s;
    const said leaks = shell(tool + " leaks --age 0 --interval 0.5 --count 2 " + s.id());
    EXPECT_EQ(leaks.rc, 0) << leaks.text;
    std::vector<unsigned long long> counts, growth;
    std::istringstream in(leaks.text);
    for (std::string line; std::getline(in, line);) {
        unsigned long long n = 0, more = 0;
        if (std::sscanf(line.c_str(), "%llu tasks (+%llu)", &n, &more) != 2) continue;
        if (line.find("::starts_and_joins() at ") != std::string::npos) {
            EXPECT_EQ(n, 1u) << leaks.text; // the one that it joins just now
            continue;
        }
        EXPECT_NE(line.find("created at (anonymous namespace)::leaks_one"), std::string::npos) << line;
        counts.push_back(n);
        growth.push_back(more);
    }
    ASSERT_EQ(counts.size(), 2u) << leaks.text;
    EXPECT_GT(counts[1], counts[0]) << leaks.text;
    EXPECT_EQ(growth[1], counts[1] - counts[0]) << leaks.text;
}

TEST(mpg_trace_top, says_how_many_events_were_lost) {
    MPG_NEEDS_PRIVILEGE();
    specimen s; // a pair's round is a dozen of events, 20 at once: more than a page holds
    const said top = shell(tool + " top --buffer 4096 --interval 0.5 --count 1 " + s.id());
    EXPECT_EQ(top.rc, 0) << top.text;
    const std::size_t at = top.text.find(" events lost");
    ASSERT_NE(at, std::string::npos) << top.text;
    EXPECT_EQ(top.text.find(" 0 events lost"), std::string::npos) << top.text;
}

TEST(mpg_trace_top, ends_with_the_process) {
    MPG_NEEDS_PRIVILEGE();
    ::pid_t pid = -1;
    std::FILE* f = nullptr;
    std::string text;
    {
        specimen s;
        pid = s.pid;
        f = ::popen((tool + " top --interval 1000 " + s.id() + " 2>&1").c_str(), "r");
        char line[4096]; // it says so when it is attached
        while (std::fgets(line, sizeof line, f) && !std::strstr(line, "attached")) text += line;
    }
    char piece[4096];
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, f)) > 0;) text.append(piece, n);
    EXPECT_EQ(::pclose(f), 0) << text;
    EXPECT_NE(text.find("process " + std::to_string(pid) + " has ended"), std::string::npos) << text;
    EXPECT_NE(text.find(" tasks ran, "), std::string::npos) << text; // what was seen until then is shown
}

TEST(mpg_trace_error, without_privilege) {
    specimen s(true); // so that it may be looked at, but not with eBPF
    const std::string without = ::geteuid() == 0 ? "setpriv --bounding-set=-all --inh-caps=-all " : "";
    if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) return expect_error(shell(without + tool + " top " + s.id()), "BTF");
    expect_error(shell(without + tool + " top " + s.id()), "not permitted to load programs into the kernel: be root");
    if (::geteuid() != 0) return;
    specimen stronger;
    expect_error(shell(without + tool + " top " + stronger.id()), "may not be looked at");
}
TEST(mpg_trace_error, wrong_process) {
    const ::pid_t gone = ::fork();
    if (gone == 0) ::_exit(0);
    ::waitpid(gone, nullptr, 0);
    expect_error(shell(tool + " top " + std::to_string(gone)), "there is no process " + std::to_string(gone));
}
TEST(mpg_trace_error, process_without_probes) {
    expect_error(shell(tool + " leaks $$"), "has no probes of mpg"); // a shell
}
TEST(mpg_trace_error, without_types_of_the_kernel) {
    specimen s;
    expect_error(shell(tool + " top --btf /nowhere " + s.id()), "no type information (BTF) of this kernel in /nowhere: No such file");
    if (!no_privilege().empty()) return;
    expect_error(shell("unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && exec " + tool + " top " + s.id() + "'"),
                 "no type information (BTF) of this kernel in /sys/kernel/btf/vmlinux");
}
TEST(mpg_trace_error, wrong_usage) {
    for (const char* arguments : {"", "top", "bottom 1", "top one", "top 1 2", "top -i", "top -i 0 1", "top --buffer 5000 1", "top -s size 1", "top -x 1"})
        expect_error(shell(tool + " " + arguments), "top PID", 2);
}

} // namespace
