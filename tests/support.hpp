// What every test shares. Include it instead of <gtest/gtest.h>.
//
//   #include "support.hpp"
//   #include <mpg/chan.hpp>
//
//   struct channel : mpg::test::with_procs {};            // a suite that runs with 1, 2, 4 and 64 Ps
//   MPG_TEST_PROCS(channel);
//   TEST_P(channel, send_on_closed_throws) {
//       run([] {                                          // mpg::run with procs() Ps; run(options, f) too
//           mpg::chan<int> c;
//           c.close();
//           EXPECT_THROW(c.send(1), mpg::channel_closed);
//       });
//   }
//
//   TEST(channel_handle, copies_are_equal) { ... }        // no scheduling involved: a plain TEST does
//
//   TEST(deadlock, ends_with_status_2) {                  // a fatal path: in a child process
//       auto child = mpg::test::run_in_child([] { mpg::run([] { mpg::chan<int>().recv(); }); });
//       EXPECT_EQ(child.exit_code, 2);
//       EXPECT_NE(child.err.find("all tasks are asleep"), std::string::npos) << child;
//   }
//
// After *every* test of a program that includes this file, a listener checks that no thread, no file descriptor, no
// io_uring, no stack slab and no current runtime is left; there is nothing to do for it. So a test ends its runtimes
// and joins its threads.
//
// Assertions (EXPECT_*, ASSERT_*) work inside tasks; ASSERT_* returns from the lambda only.
//
// A line `// ctest: ...` in a test's source tells CTest about the program; see tests/CMakeLists.txt.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/runtime.hpp>
#include <mpg/task.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <ostream>
#include <poll.h>
#include <random>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

namespace mpg::test {

/// The numbers of Ps with which everything is tried that depends on scheduling: $MPG_TEST_PROCS (a number; what
/// scripts/soak varies) or these.
inline const std::vector<unsigned>& all_procs() {
    static const std::vector<unsigned> value = [] {
        const char* given = std::getenv("MPG_TEST_PROCS");
        return given ? std::vector<unsigned>{static_cast<unsigned>(std::strtoul(given, nullptr, 10))}
                     : std::vector<unsigned>{1, 2, 4, 64};
    }();
    return value;
}

/// n, or less of it where a sanitizer makes each step ten times slower. Never 0.
constexpr std::size_t scaled(std::size_t n) {
    return base::tsan || base::asan ? std::max<std::size_t>(n / 10, 1) : n;
}

/// o, for n Ps, and with slices of $MPG_TEST_SLICE_US where a test leaves that to us (scripts/soak varies it).
inline options options_for(unsigned n, options o = {}) {
    static const char* const given = std::getenv("MPG_TEST_SLICE_US");
    if (given && o.preempt_after == options{}.preempt_after)
        o.preempt_after = std::chrono::microseconds(std::strtoul(given, nullptr, 10));
    o.procs = n;
    return o;
}

/// Runs f as the main task of a runtime with n Ps and returns its result.
template <class F> decltype(auto) run_with_procs(unsigned n, F&& f) { return mpg::run(options_for(n), std::forward<F>(f)); }

/// The same for each of all_procs() in turn, for plain TESTs.
template <class F> void run_with_all_procs(F f) {
    for (unsigned n : all_procs()) {
        SCOPED_TRACE("procs " + std::to_string(n));
        run_with_procs(n, f);
    }
}

/// A fixture with a number of Ps; derive a suite from it and name that in MPG_TEST_PROCS.
class with_procs : public ::testing::TestWithParam<unsigned> {
  protected:
    unsigned procs() const { return GetParam(); }
    template <class F> decltype(auto) run(F&& f) { return run_with_procs(procs(), std::forward<F>(f)); }
    template <class F> decltype(auto) run(options o, F&& f) {
        return mpg::run(options_for(procs(), std::move(o)), std::forward<F>(f));
    }
};

#define MPG_TEST_PROCS(suite)                                                                                 \
    INSTANTIATE_TEST_SUITE_P(procs, suite, ::testing::ValuesIn(::mpg::test::all_procs()),                       \
                             [](const auto& of) { return std::to_string(of.param); })

/// Waits until pred() holds and says whether it came to. The limit is a watchdog, not a part of any test's logic.
template <class Pred>
[[nodiscard]] bool eventually(Pred pred, std::chrono::seconds limit = std::chrono::seconds(60)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!pred()) {
        if (std::chrono::steady_clock::now() > end) return false;
        if (this_task::inside())
            mpg::yield();
        else
            std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
}

/// The seed of whatever is random in a test: $MPG_TEST_SEED, or a new one; printed once.
inline std::uint64_t seed() {
    static const std::uint64_t value = [] {
        const char* given = std::getenv("MPG_TEST_SEED");
        std::uint64_t s = given ? std::strtoull(given, nullptr, 0)
                                : (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
        std::cout << "MPG_TEST_SEED=" << s << std::endl;
        return s;
    }();
    return value;
}

/// What became of a child process.
struct child_result {
    int exit_code = -1; // -1: it was ended by a signal
    int signal = 0;     // that signal
    std::string out, err;

    friend std::ostream& operator<<(std::ostream& os, const child_result& r) {
        return os << "exit code " << r.exit_code << ", signal " << r.signal << "\n--- stdout\n"
                  << r.out << "--- stderr\n" << r.err << "---";
    }
};

namespace detail {

inline std::size_t thread_count() {
    std::size_t n = 0;
    if (::DIR* d = ::opendir("/proc/self/task")) {
        while (::dirent* e = ::readdir(d)) n += e->d_name[0] != '.';
        ::closedir(d);
    }
    return n;
}

/// Descriptor number to what it is.
inline std::map<int, std::string> descriptors() {
    std::map<int, std::string> fds;
    if (::DIR* d = ::opendir("/proc/self/fd")) {
        while (::dirent* e = ::readdir(d)) {
            int fd = std::atoi(e->d_name);
            if (e->d_name[0] == '.' || fd == ::dirfd(d)) continue;
            char target[256];
            ::ssize_t n = ::readlinkat(::dirfd(d), e->d_name, target, sizeof target);
            fds[fd] = std::string(target, n > 0 ? static_cast<std::size_t>(n) : 0);
        }
        ::closedir(d);
    }
    return fds;
}

/// Mappings that only this library makes: rings by their name, stack slabs by their madvise flag.
struct mappings {
    std::size_t lines = 0, rings = 0, slabs = 0;
};

inline mappings count_mappings() {
    mappings m;
    std::ifstream smaps("/proc/self/smaps");
    unsigned long first = 0, last = 0;
    for (std::string line; std::getline(smaps, line);) {
        if (line.rfind("VmFlags:", 0) == 0) // MADV_NOHUGEPAGE; the C library's thread stacks, too, but they are small
            m.slabs += line.find(" nh") != std::string::npos && last - first >= 64u << 20;
        else if (line.find("kB") == std::string::npos && line.find('-') != std::string::npos) {
            ++m.lines;
            std::sscanf(line.c_str(), "%lx-%lx", &first, &last);
            m.rings += line.find("[io_uring]") != std::string::npos;
        }
    }
    return m;
}

/// Sanitizers tell their shadow from huge pages with the same flag, so there slabs cannot be told apart.
inline constexpr bool slabs_are_ours = !base::asan && !base::tsan;

/// malloc keeps its arenas, and glibc up to 40 MiB of its threads' stacks for the next threads, which is 155 of ours; each
/// is two lines. What is left once for each runtime shows in the tests that run a thousand.
/// ThreadSanitizer keeps something of every thread that ever was.
inline constexpr std::size_t mapping_slack = base::tsan ? std::size_t{1} << 20 : 640;

class leak_listener final : public ::testing::EmptyTestEventListener {
    void OnTestStart(const ::testing::TestInfo&) override {
        // ThreadSanitizer has a thread of its own from the first one on.
        threads_ = thread_count() + (base::tsan ? 1 : 0);
        fds_ = descriptors();
        maps_ = count_mappings();
    }
    void OnTestEnd(const ::testing::TestInfo&) override {
        // A joined thread stands in /proc for a moment longer: so look until it is gone.
        (void)eventually([&] { return thread_count() <= threads_; }, std::chrono::seconds(5));
        EXPECT_LE(thread_count(), threads_) << "threads are left";
        for (auto& [fd, what] : descriptors())
            EXPECT_TRUE(fds_.count(fd)) << "file descriptor " << fd << " is left: " << what;
        mappings now = count_mappings();
        EXPECT_LE(now.rings, maps_.rings) << "mappings of rings are left";
        if (slabs_are_ours) {
            EXPECT_LE(now.slabs, maps_.slabs) << "stack slabs are left";
        }
        EXPECT_LE(now.lines, maps_.lines + mapping_slack) << "mappings are left";
        EXPECT_EQ(runtime::current(), nullptr) << "a runtime is left";
    }
    std::size_t threads_ = 0;
    std::map<int, std::string> fds_;
    mappings maps_;
};

// ThreadSanitizer starts a thread of its own with the first one of the program.
inline const bool sanitizer_has_its_thread = (base::tsan ? std::thread([] {}).join() : void(), true);

// The listener list owns it.
inline const bool leak_listener_installed =
    (::testing::UnitTest::GetInstance()->listeners().Append(new leak_listener), true);

inline void drain(int fd, std::string& into, bool& open) {
    char buffer[4096];
    ::ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n > 0) into.append(buffer, static_cast<std::size_t>(n));
    if (n == 0) open = false;
}

} // namespace detail

/// Runs f in a child process and returns how it ended and what it wrote. f's int result, or else 0, is the exit
/// code; an exception that leaves f is 97. The child dies of SIGALRM when it takes longer than a minute (a
/// watchdog). Call it where no runtime and no thread is alive, for the child is a fork.
template <class F> child_result run_in_child(F f) {
    int out[2], err[2];
    if (::pipe(out) != 0 || ::pipe(err) != 0) {
        ADD_FAILURE() << "pipe";
        return {};
    }
    std::cout.flush();
    std::cerr.flush();
    std::fflush(nullptr);
    ::pid_t pid = ::fork();
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::alarm(60);
        ::dup2(out[1], 1);
        ::dup2(err[1], 2);
        for (int fd : {out[0], out[1], err[0], err[1]}) ::close(fd);
        int code = 0;
        try {
            if constexpr (std::is_convertible_v<std::invoke_result_t<F>, int>)
                code = f();
            else
                f();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "exception: %s\n", e.what());
            code = 97;
        }
        std::cout.flush();
        std::cerr.flush();
        std::fflush(nullptr);
        ::_exit(code);
    }
    ::close(out[1]);
    ::close(err[1]);
    child_result r;
    bool out_open = true, err_open = true;
    while (pid > 0 && (out_open || err_open)) {
        ::pollfd fds[2] = {{out_open ? out[0] : -1, POLLIN, 0}, {err_open ? err[0] : -1, POLLIN, 0}};
        if (::poll(fds, 2, -1) < 0) continue;
        if (fds[0].revents) detail::drain(out[0], r.out, out_open);
        if (fds[1].revents) detail::drain(err[0], r.err, err_open);
    }
    ::close(out[0]);
    ::close(err[0]);
    int status = 0;
    if (pid < 0 || ::waitpid(pid, &status, 0) != pid) {
        ADD_FAILURE() << "fork";
        return r;
    }
    if (WIFEXITED(status))
        r.exit_code = WEXITSTATUS(status);
    else
        r.signal = WTERMSIG(status);
    return r;
}

} // namespace mpg::test
