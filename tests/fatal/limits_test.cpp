// Where the system gives less than is asked for: each limit has its error, or its fallback, and stats() says which. Each
// in a child process.
//
// ctest: no-asan  it counts address space and mappings, of which the sanitizer takes what it likes
// ctest: no-tsan  the same
#include "refuse.hpp"
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <grp.h>
#include <linux/membarrier.h>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;
using mpg::test::child_result;
using mpg::test::refuse;

mpg::options with(unsigned procs) {
    mpg::options o;
    o.procs = procs;
    return o;
}

void limit_to(int resource, rlim_t soft) {
    ::rlimit l{};
    ::getrlimit(static_cast<__rlimit_resource>(resource), &l);
    l.rlim_cur = soft;
    ::setrlimit(static_cast<__rlimit_resource>(resource), &l);
}

std::size_t address_space() {
    std::ifstream f("/proc/self/statm");
    std::size_t pages = 0;
    f >> pages;
    return pages * 4096;
}

/// Runs f in a child process; it must end well.
template <class F> child_result passes(F f) {
    child_result child = mpg::test::run_in_child([&] {
        f();
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_EQ(child.exit_code, 0) << child;
    return child;
}
/// Runs f in a child process; it must end with status 2 and this message.
template <class F> void is_fatal(const std::string& message, F f) {
    child_result child = mpg::test::run_in_child(f);
    EXPECT_EQ(child.exit_code, 2) << child;
    EXPECT_NE(child.err.find("fatal error: " + message), std::string::npos) << child;
}

/// One who computes until another has come to its turn, on one P.
void hog_is_preempted() {
    std::atomic<bool> on{true};
    mpg::go([&] { on = false; });
    while (on.load(std::memory_order_relaxed)) asm volatile("" ::: "memory");
}
/// One who blocks its thread until another writes, on one P.
void reader_lets_go() {
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    mpg::go([&] { EXPECT_EQ(::write(fds[1], "x", 1), 1); });
    char c;
    EXPECT_EQ(::read(fds[0], &c, 1), 1);
}

mpg::runtime_stats stats() { return mpg::runtime::current()->stats(); }

// ---- threads

TEST(limits, threads_for_blocking) {
    is_fatal("thread limit of 4 reached", [] {
        mpg::options o = with(1);
        o.max_threads = 4;
        mpg::run(o, [] {
            mpg::wait_group ended;
            for (int i = 0; i < 10; ++i) ended.go([] { mpg::blocking([] { ::pause(); }); });
            ended.wait();
        });
    });
}

TEST(limits, threads_for_unannounced_blocking) {
    is_fatal("thread limit of 4 reached", [] {
        mpg::options o = with(1);
        o.max_threads = 4;
        mpg::run(o, [] {
            mpg::wait_group ended;
            for (int i = 0; i < 10; ++i) ended.go([] { ::pause(); });
            ended.wait();
        });
    });
}

// Those who compute share the threads that there are.
TEST(limits, threads_for_hogs) {
    passes([] {
        mpg::options o = with(1);
        o.max_threads = 4;
        mpg::run(o, [] {
            std::atomic<bool> on{true};
            mpg::wait_group ended;
            for (int i = 0; i < 3; ++i)
                ended.go([&] {
                    while (on.load(std::memory_order_relaxed)) asm volatile("" ::: "memory");
                });
            for (int i = 0; i < 5; ++i) mpg::sleep_for(1ms);
            EXPECT_LE(stats().threads, 4u);
            on = false;
            ended.wait();
        });
    });
}

TEST(limits, no_limit_on_threads_costs_no_memory) {
    passes([] {
        mpg::options o = with(1);
        o.max_threads = ~std::size_t{0};
        mpg::run(o, reader_lets_go);
    });
}

// Root has no such limit.
void become_nobody(rlim_t threads) {
    limit_to(RLIMIT_NPROC, threads);
    ASSERT_EQ(::setgroups(0, nullptr), 0);
    ASSERT_EQ(::setuid(100'000u + static_cast<unsigned>(::getpid())), 0); // of whom nobody else has a thread
}

TEST(limits, processes_of_the_user) {
    if (::getuid() != 0) GTEST_SKIP() << "needs to change the user";
    is_fatal("cannot start a thread: Resource temporarily unavailable", [] {
        become_nobody(2); // one for the monitor
        mpg::run(with(1), [] {});
    });
}

TEST(limits, no_thread_for_the_monitor) {
    if (::getuid() != 0) GTEST_SKIP() << "needs to change the user";
    passes([] {
        become_nobody(1);
        mpg::runtime rt(with(1));
        limit_to(RLIMIT_NPROC, 1000);
        EXPECT_NE(rt.stats().preemption_reason.find("thread"), std::string::npos) << rt.stats().preemption_reason;
        EXPECT_NE(rt.stats().retake_reason.find("thread"), std::string::npos) << rt.stats().retake_reason;
        EXPECT_EQ(rt.run([] { return mpg::spawn([] { return 5; }).join(); }), 5);
    });
}

TEST(limits, no_thread_to_go_on_with_is_said_once) {
    if (::getuid() != 0) GTEST_SKIP() << "needs to change the user";
    auto child = passes([] {
        become_nobody(3); // this one, the monitor, and one to run tasks
        mpg::run(with(1), [] {
            std::atomic<int> ran{0};
            for (int i = 0; i < 3; ++i) {
                mpg::go([&] { ++ran; });
                ::usleep(50'000);
            }
            EXPECT_EQ(ran, 0);
            EXPECT_TRUE(mpg::test::eventually([&] { return ran == 3; }));
        });
    });
    const auto first = child.err.find("mpg: warning: no further thread");
    ASSERT_NE(first, std::string::npos) << child;
    EXPECT_EQ(child.err.find("mpg: warning", first + 1), std::string::npos) << child;
}

// ---- memory

TEST(limits, address_space_for_stacks) {
    is_fatal("no memory for the stack of task ", [] {
        mpg::run(with(1), [] {
            mpg::chan<void> never;
            for (int i = 0; i < 2'000; ++i) mpg::go([never] { never.recv(); });
            limit_to(RLIMIT_AS, address_space() + (256u << 20));
            mpg::sleep_for(1h);
        });
    });
}

TEST(limits, address_space_for_one_slab_is_not_needed) {
    passes([] {
        mpg::runtime rt(with(1));
        rt.run([] {}); // its threads exist
        limit_to(RLIMIT_AS, address_space() + (40u << 20));
        rt.run([] {
            mpg::wait_group ended;
            for (int i = 0; i < 50; ++i) ended.go([] { mpg::yield(); });
            ended.wait();
        });
    });
}

void many_at_once() {
    mpg::wait_group ended;
    mpg::chan<void> gate;
    for (int i = 0; i < 50; ++i) ended.go([gate] { gate.recv(); });
    mpg::yield();
    gate.close();
    ended.wait();
}

// Where commitments are counted (vm.overcommit_memory 2), MAP_NORESERVE counts for nothing, and 64 MiB are refused.
TEST(limits, commitments_for_one_slab_are_not_needed) {
    passes([] {
        refuse(SYS_mmap, ENOMEM, 1, 64u << 20);
        mpg::run(with(2), many_at_once);
    });
    passes([] { // it counts as commitments do, but per process: stacks that nobody has touched, too
        mpg::runtime rt(with(1));
        rt.run([] {}); // its threads exist
        std::ifstream f("/proc/self/status");
        std::size_t kib = 0;
        for (std::string word; f >> word;)
            if (word == "VmData:") f >> kib;
        ASSERT_GT(kib, 0u);
        limit_to(RLIMIT_DATA, (kib << 10) + (20u << 20));
        rt.run(many_at_once);
    });
}

// The signal that asks a thread to freeze then comes by another way.
TEST(limits, queued_signals) {
    passes([] {
        limit_to(RLIMIT_SIGPENDING, 0);
        mpg::run(with(1), [] {
            for (int i = 0; i < 3; ++i) hog_is_preempted();
            EXPECT_GT(stats().preemptions, 0u);
        });
    });
}

TEST(limits, no_memory_for_records_is_an_exception) {
    passes([] {
        mpg::runtime rt(with(1));
        rt.run([] {});
        limit_to(RLIMIT_AS, address_space() + (64u << 20));
        bool thrown = false;
        const std::size_t started = rt.run([&] {
            std::size_t n = 0;
            try {
                for (; n < 10'000'000; ++n) mpg::go([] {});
            } catch (const std::bad_alloc&) {
                thrown = true;
            }
            limit_to(RLIMIT_AS, RLIM_INFINITY);
            return n;
        });
        EXPECT_TRUE(thrown);
        EXPECT_GT(started, 10'000u);
        EXPECT_TRUE(mpg::test::eventually([&] { return rt.stats().tasks == 0; })) << rt.stats().tasks;
    });
}

/// Makes mappings until the process may have no more, but for a few.
void use_up_mappings(std::size_t but) {
    std::vector<char*> made;
    made.reserve(100'000);
    const std::size_t pages = 1 << 18;
    auto* at = static_cast<char*>(::mmap(nullptr, pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASSERT_NE(at, MAP_FAILED);
    std::size_t n = 0;
    while (2 * n + 1 < pages && ::mprotect(at + (2 * n + 1) * 4096, 4096, PROT_READ) == 0) ++n;
    ASSERT_GT(n, 1000u);
    ASSERT_GT(n, but);
    for (std::size_t i = 0; i < but; ++i) ::mprotect(at + (2 * (n - 1 - i) + 1) * 4096, 4096, PROT_NONE);
}

TEST(limits, mappings_for_threads) {
    child_result child = mpg::test::run_in_child([] {
        mpg::runtime rt(with(1));
        rt.run([] {});
        use_up_mappings(0);
        rt.run([] {
            mpg::wait_group ended;
            for (int i = 0; i < 10; ++i) ended.go([] { mpg::blocking([] { ::pause(); }); });
            ended.wait();
        });
    });
    EXPECT_EQ(child.exit_code, 2) << child;
    // The C library takes what is refused for want of memory as a limit on threads.
    EXPECT_TRUE(child.err.find("fatal error: cannot start a thread: ") != std::string::npos ||
                child.err.find("fatal error: no memory for ") != std::string::npos)
        << child;
}

// Guards that need no mappings let tasks run on.
TEST(limits, mappings_for_guards) {
    auto child = passes([] {
        mpg::runtime rt(with(1));
        rt.run([] {}); // its slab of stacks is there
        use_up_mappings(2);
        rt.run([] {
            mpg::wait_group ended;
            for (int i = 0; i < 200; ++i) ended.go([] { mpg::yield(); });
            ended.wait();
        });
    });
    EXPECT_EQ(child.err.find("fatal"), std::string::npos) << child;
}

// ---- descriptors

TEST(limits, eight_descriptors) {
    passes([] {
        ::unsetenv("MPG_NETPOLL");
        limit_to(RLIMIT_NOFILE, 8);
        for (unsigned procs : {1u, 4u}) {
            mpg::runtime rt(with(procs));
            EXPECT_EQ(rt.stats().poller_reason.empty(), rt.stats().poller == mpg::netpoll::io_uring) << rt.stats().poller_reason;
            rt.run([] {
                mpg::chan<int> c;
                mpg::go([c] {
                    mpg::sleep_for(1ms);
                    c.send(7);
                });
                EXPECT_EQ(c.recv(), 7);
            });
        }
    });
}

// The monitor cannot read /proc then.
TEST(limits, without_a_descriptor_left_nobody_holds_others_up) {
    passes([] {
        mpg::runtime rt(with(1));
        int fds[2];
        ASSERT_EQ(::pipe(fds), 0);
        while (::open("/dev/null", O_RDONLY) >= 0 || errno == EINTR) {}
        rt.run([&] {
            for (int i = 0; i < 3; ++i) {
                hog_is_preempted();
                mpg::go([&] { EXPECT_EQ(::write(fds[1], "x", 1), 1); });
                char c;
                EXPECT_EQ(::read(fds[0], &c, 1), 1);
            }
        });
        // Who computes but gets no CPU from a busy system looks as if it slept.
        EXPECT_GT(rt.stats().preemptions + rt.stats().handoffs, 0u);
    });
}

// ---- what a filter may refuse

struct refused : ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(with, refused, ::testing::Values(EPERM, ENOSYS),
                         [](const auto& of) { return of.param == EPERM ? "eperm" : "enosys"; });

TEST_P(refused, membarrier) {
    passes([] {
        refuse(SYS_membarrier, GetParam());
        mpg::run(with(1), [] {
            for (int i = 0; i < 20; ++i) reader_lets_go();
            hog_is_preempted();
            EXPECT_EQ(stats().preemption_reason, "");
            EXPECT_EQ(stats().retake_reason, "");
        });
    });
}

// It may be let through for some commands only.
TEST_P(refused, membarrier_after_its_registration) {
    passes([] {
        refuse(SYS_membarrier, GetParam(), 0, MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        mpg::run(with(1), [] {
            for (int i = 0; i < 20; ++i) reader_lets_go();
        });
    });
}

TEST_P(refused, membarrier_and_cpu_clocks) {
    passes([] {
        refuse(SYS_membarrier, GetParam());
        refuse(SYS_clock_gettime, GetParam());
        mpg::run(with(2), [] {
            EXPECT_NE(stats().retake_reason.find("membarrier"), std::string::npos) << stats().retake_reason;
            EXPECT_NE(stats().preemption_reason.find("CPU clock"), std::string::npos) << stats().preemption_reason;
            EXPECT_EQ(mpg::spawn([] { return 5; }).join(), 5);
        });
    });
}

TEST_P(refused, signals_to_threads) {
    passes([] {
        refuse(SYS_tgkill, GetParam());
        mpg::run(with(1), [] {
            EXPECT_NE(stats().preemption_reason.find("tgkill"), std::string::npos) << stats().preemption_reason;
            reader_lets_go();
        });
    });
}

TEST_P(refused, timers_on_cpu_clocks) {
    passes([] {
        refuse(SYS_timer_create, GetParam());
        mpg::run(with(1), [] {
            for (int i = 0; i < 3; ++i) hog_is_preempted();
            EXPECT_GT(stats().preemptions, 0u);
        });
    });
}

TEST_P(refused, signal_handlers) {
    passes([] {
        refuse(SYS_rt_sigaction, GetParam());
        mpg::run(with(1), [] {
            EXPECT_NE(stats().preemption_reason.find("sigaction"), std::string::npos) << stats().preemption_reason;
            reader_lets_go();
        });
    });
}

TEST_P(refused, signal_stacks) {
    passes([] {
        refuse(SYS_sigaltstack, GetParam());
        mpg::run(with(1), [] {
            EXPECT_NE(stats().preemption_reason.find("sigaltstack"), std::string::npos) << stats().preemption_reason;
            reader_lets_go();
        });
    });
}

TEST_P(refused, proc_files) {
    passes([] {
        mpg::run(with(1), [] {
            refuse(SYS_openat, GetParam());
            for (int i = 0; i < 3; ++i) {
                hog_is_preempted();
                reader_lets_go();
            }
        });
    });
}

TEST_P(refused, guards_that_need_no_mapping) {
    passes([] {
        refuse(SYS_madvise, GetParam(), 2, 102);
        mpg::run(with(1), [] {
            mpg::wait_group ended;
            for (int i = 0; i < 2'000; ++i) ended.go([] { mpg::yield(); });
            ended.wait();
        });
    });
    // and the guards hold
    auto child = mpg::test::run_in_child([] {
        refuse(SYS_madvise, GetParam(), 2, 102);
        mpg::run(with(1), [] {
            volatile char* at = static_cast<char*>(__builtin_alloca(250 << 10));
            for (std::size_t i = 250 << 10; i > 0; i -= 1 << 10) at[i - 1] = 1;
            at = static_cast<char*>(__builtin_alloca(4 << 10));
            for (std::size_t i = 4 << 10; i > 0; i -= 1 << 10) at[i - 1] = 1;
        });
    });
    EXPECT_EQ(child.signal, SIGSEGV) << child;
    EXPECT_NE(child.err.find(" stack overflow"), std::string::npos) << child;
}

// So many that stacks are made ready several at a time; each has its guard.
void overrun_the_last_of_many() {
    mpg::run(with(1), [] {
        mpg::chan<void> never;
        mpg::wait_group ended;
        for (int i = 0; i < 500; ++i) mpg::go([never] { never.recv(); });
        ended.go([] {
            mpg::yield();
            volatile char* at = static_cast<char*>(__builtin_alloca(257 << 10));
            for (std::size_t i = 257 << 10; i > 0; i -= 1 << 10) at[i - 1] = 1;
        });
        ended.wait();
    });
}

TEST_P(refused, guards_of_several_stacks_in_one_call) {
    for (int advice : {0, 102, 23}) { // neither, MADV_GUARD_INSTALL, MADV_POPULATE_WRITE
        auto child = mpg::test::run_in_child([&] {
            if (advice != 0) refuse(SYS_process_madvise, GetParam(), 3, static_cast<unsigned>(advice));
            overrun_the_last_of_many();
        });
        EXPECT_EQ(child.signal, SIGSEGV) << child;
        EXPECT_NE(child.err.find(" stack overflow"), std::string::npos) << child;
    }
}

TEST_P(refused, all_guards) {
    auto child = passes([] {
        refuse(SYS_madvise, GetParam(), 2, 102);
        mpg::runtime rt(with(1));
        refuse(SYS_mprotect, GetParam(), 2, PROT_NONE);
        rt.run([] {
            mpg::wait_group ended;
            for (int i = 0; i < 200; ++i) ended.go([] { mpg::yield(); });
            ended.wait();
        });
    });
    const auto first = child.err.find("mpg: warning: no more guard pages");
    EXPECT_NE(first, std::string::npos) << child;
    EXPECT_EQ(child.err.find("mpg: warning", first + 1), std::string::npos) << child;
    child = mpg::test::run_in_child([] {
        refuse(SYS_madvise, GetParam(), 2, 102);
        refuse(SYS_mprotect, GetParam(), 2, PROT_NONE);
        mpg::run(with(1), [] {
            mpg::wait_group ended;
            ended.go([] {
                volatile char* at = static_cast<char*>(__builtin_alloca(257 << 10));
                for (std::size_t i = 257 << 10; i > 0; i -= 1 << 10) at[i - 1] = 1;
            });
            ended.wait();
        });
    });
    EXPECT_NE(child.err.find("canary"), std::string::npos) << child;
}

} // namespace
