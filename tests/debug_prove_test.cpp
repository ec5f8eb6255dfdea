// debug::prove_stuck: who waits for ever, and above all who does not.
// ctest: lines
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>

namespace {

using namespace std::chrono_literals;
using mpg::debug::proof;

/// How many of the stuck tasks have that name.
std::size_t stuck(const proof& p, std::string_view name) {
    std::size_t n = 0;
    for (const mpg::debug::stuck_task& t : p.stuck) n += t.name == name;
    return n;
}
/// Starts a task of that name; returns when it waits for something.
template <class F> [[gnu::noinline]] void start(const char* name, F f) {
    mpg::go([name, f = std::move(f)]() mutable {
        mpg::this_task::set_name(name);
        f();
    });
}
std::size_t waiting() { return mpg::runtime::current()->stats().tasks_waiting; }
void until_waiting(std::size_t n) {
    while (waiting() < n) mpg::yield();
}
/// Calls f where frames of later calls from here do not come: else a variable of theirs, before it is written, is what f has
/// left behind, and so knows what f knew.
template <class F> [[gnu::noinline]] void deep(F f) {
    char below[16 << 10];
    asm volatile("" : : "r"(below) : "memory");
    f();
    asm volatile("" : : "r"(below) : "memory");
}
/// The rest of this stack gets other bytes than those that calls before have left.
[[gnu::noinline]] void overwrite() {
    volatile char rest[6000];
    for (volatile char& c : rest) c = 0;
}

struct prove : mpg::test::with_procs {
    /// make starts n tasks named "dead", which wait for ever. As many are found, and nobody else. An address that somebody has
    /// left behind where it counts costs a proof, and no more: then others are made.
    template <class F> static proof expect_dead(std::size_t n, F make) {
        proof p;
        const std::size_t others = waiting();
        for (std::size_t i = 1; i <= 20 && p.failure.empty() && stuck(p, "dead") < n; ++i) {
            deep(make);
            until_waiting(others + i * n);
            overwrite();
            p = mpg::debug::prove_stuck();
            EXPECT_EQ(p.stuck.size(), stuck(p, "dead"));
        }
        EXPECT_EQ(p.failure.empty(), !mpg::base::asan && !mpg::base::tsan) << p.failure;
        if (p.failure.empty()) {
            EXPECT_GE(stuck(p, "dead"), n) << p.candidates << " candidates";
        }
        return p;
    }
    /// n tasks named "alive" wait; none of them is found.
    static void expect_alive(std::size_t n) {
        until_waiting(n);
        for (int i = 0; i < 3; ++i) {
            proof p = mpg::debug::prove_stuck();
            EXPECT_EQ(p.failure.empty(), !mpg::base::asan && !mpg::base::tsan) << p.failure;
            EXPECT_EQ(stuck(p, "alive"), 0u) << p.stuck.front().why;
        }
    }
};
MPG_TEST_PROCS(prove);

// ---- who does

[[gnu::noinline]] void lose_a_channel() {
    mpg::chan<int> c;
    start("dead", [c] { (void)c.recv(); });
}
TEST_P(prove, who_holds_the_last_handle) {
    run([] {
        const proof p = expect_dead(1, lose_a_channel);
        if (!p.failure.empty()) return;
        ASSERT_GE(p.stuck.size(), 1u);
        const std::string head = "task " + std::to_string(p.stuck[0].id) + " waits for ever: it holds the last handle of channel 0x";
        EXPECT_EQ(p.stuck[0].why.compare(0, head.size(), head), 0) << p.stuck[0].why;
        // It is remembered, so the cheap reports tell it, too.
        std::ostringstream os;
        mpg::debug::dump_tasks(os);
        EXPECT_NE(os.str().find(", for ever], created"), std::string::npos) << os.str();
        EXPECT_NE(os.str().find(head), std::string::npos) << os.str();
        const auto all = mpg::debug::leaks(1h);
        ASSERT_EQ(all.size(), 1u);
        EXPECT_TRUE(all[0].for_ever);
        EXPECT_NE(all[0].why.find("waits for ever: it holds the last handle of channel 0x"), std::string::npos) << all[0].why;
        os.str("");
        mpg::debug::report_leaks(os, 1h);
        EXPECT_NE(os.str().find("can never go on"), std::string::npos) << os.str();
    });
}
TEST_P(prove, leaks_can_look_itself) {
    run([] {
        std::size_t n = 0;
        if (mpg::base::asan || mpg::base::tsan) return;
        for (int i = 1; i <= 20 && n == 0; ++i) {
            deep(lose_a_channel);
            until_waiting(static_cast<std::size_t>(i));
            overwrite();
            for (const auto& l : mpg::debug::leaks(1h, true)) n += l.count;
        }
        EXPECT_GE(n, 1u);
    });
}

[[gnu::noinline]] void wait_for_each_other() {
    mpg::chan<int> a, b;
    start("dead", [a, b] {
        (void)a.recv();
        b.send(1);
    });
    start("dead", [a, b] {
        (void)b.recv();
        a.send(1);
    });
}
TEST_P(prove, two_who_wait_for_each_other) {
    run([] {
        expect_dead(2, wait_for_each_other);
    });
}

[[gnu::noinline]] void forget_to_close() {
    mpg::chan<std::string> c(4);
    start("ended", [c] { c.send("one"); });
    start("dead", [c] {
        for (const std::string& s : c) (void)s;
    });
}
TEST_P(prove, whose_sender_has_ended) {
    run([] {
        expect_dead(1, forget_to_close);
    });
}

[[gnu::noinline]] void unlock_never() {
    start("dead", [] {
        mpg::mutex m;
        mpg::wait_group locked;
        locked.go([&m] { m.lock(); }); // and ends
        locked.wait();
        m.lock();
    });
    start("dead", [] {
        mpg::wait_group w;
        w.add(2);
        w.go([&w] { w.done(); });
        w.wait();
    });
    start("dead", [] { mpg::semaphore(0).acquire(1); });
    start("dead", [] {
        mpg::mutex m;
        mpg::condition_variable c;
        std::unique_lock lock(m);
        c.wait(lock);
    });
}
TEST_P(prove, locks_that_nobody_knows) {
    run([] {
        expect_dead(4, unlock_never);
    });
}

[[gnu::noinline]] void select_nothing() {
    mpg::chan<int> a, b(1);
    b.send(1);
    start("dead", [a, b] { mpg::select(mpg::on_recv(a), mpg::on_send(b, 2), mpg::on_done(mpg::context::background())); });
    mpg::chan<int> c;
    start("dead", [c] {
        int v = 0;
        (void)c.recv(mpg::context::background(), v);
    });
}
TEST_P(prove, select_over_lost_channels) {
    run([] {
        expect_dead(2, select_nothing);
    });
}

[[gnu::noinline]] void join_the_dead() {
    mpg::chan<int> c;
    start("dead", [c, before = waiting(), large = std::array<char, 300>()] { // its closure does not fit into the record
        (void)large;
        auto t = mpg::spawn([c] {
            mpg::this_task::set_name("dead");
            c.send(1);
        });
        // It runs by itself: the one who joins does not lend it his stack.
        while (waiting() < before + 1) mpg::yield();
        t.join();
    });
}
TEST_P(prove, who_joins_one_of_them) {
    run([] { expect_dead(2, join_the_dead); });
}

// ---- who does not

mpg::chan<int> global = nullptr;

TEST_P(prove, not_while_a_global_knows) {
    run([] {
        global = mpg::chan<int>();
        start("alive", [c = global] { (void)c.recv(); });
        expect_alive(1);
        global.send(1);
        global = nullptr;
    });
}
TEST_P(prove, not_while_the_heap_knows) {
    run([] {
        auto held = std::make_unique<std::array<mpg::chan<int>, 2>>();
        start("alive", [c = (*held)[1]] { (void)c.recv(); });
        auto shared = std::make_shared<mpg::mutex>();
        shared->lock();
        start("alive", [shared] { std::lock_guard hold(*shared); });
        expect_alive(2);
        (*held)[1].send(1);
        shared->unlock();
    });
}
[[gnu::noinline]] void lend(std::atomic<mpg::chan<int>*>& to) {
    start("alive", [&to] {
        mpg::chan<int> mine;
        to = &mine;
        (void)mine.recv();
    });
}
TEST_P(prove, not_while_a_task_knows_by_reference) {
    run([] {
        mpg::chan<int> c, go_on;
        start("alive", [c] { (void)c.recv(); });
        auto knows = mpg::spawn([&] { (void)go_on.recv(), c.send(1); }); // on a stack of its own, at rest
        std::atomic<mpg::chan<int>*> lent = nullptr;                     // into the other's frame
        lend(lent);
        expect_alive(3);
        go_on.send(1);
        lent.load()->send(1);
        knows.join();
    });
}
TEST_P(prove, not_while_time_passes) {
    run([] {
        mpg::chan<int> c;
        start("alive", [] { // the handle of each is the only one
            int v = 0;
            (void)mpg::chan<int>().recv_for(v, 1h);
        });
        start("alive", [] { mpg::select(mpg::on_recv(mpg::chan<int>()), mpg::on_timeout(1h)); });
        start("alive", [] { (void)mpg::after(1h).recv(); });
        start("alive", [] {
            auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
            int v = 0;
            (void)mpg::chan<int>().recv(ctx, v);
        });
        start("alive", [] {
            auto ctx = mpg::with_timeout(mpg::context::background(), 1h);
            (void)ctx.done().recv();
        });
        start("alive", [] {
            mpg::mutex m;
            m.lock();
            (void)m.try_lock_for(1h);
        });
        start("alive", [] {
            mpg::chan<int> later;
            mpg::after_func(1h, [later] { later.send(1); });
            (void)later.recv();
        });
        expect_alive(7);
    });
}
TEST_P(prove, not_while_somebody_can_cancel) {
    run([] {
        auto ctx = mpg::with_cancel(mpg::context::background());
        auto child = mpg::with_cancel(ctx);
        start("alive", [inner = mpg::context(child)] {
            int v = 0;
            (void)mpg::chan<int>().recv(inner, v);
        });
        start("alive", [inner = mpg::context(child)] { (void)inner.done().recv(); });
        start("alive", [inner = mpg::context(child)] { mpg::select(mpg::on_done(inner)); });
        expect_alive(3);
        ctx.cancel();
    });
}
TEST_P(prove, not_while_another_runtime_knows) {
    run([] {
        mpg::chan<int> c, ready, go_on;
        start("alive", [c] { (void)c.recv(); });
        std::thread other([c, ready, go_on]() mutable {
            mpg::run([&] {
                auto knows = mpg::spawn([c = std::move(c), go_on] { (void)go_on.recv(), c.send(1); });
                ready.send(1);
                knows.join();
            });
        });
        c = nullptr;
        (void)ready.recv();
        expect_alive(1);
        go_on.send(1);
        other.join();
    });
}

// A plain thread that knows a channel in one way only.
enum class way { frame, system_call, blocked_task, by_register, by_vector, packed, tagged, locked_page, shared_page };
[[gnu::noinline]] void hand_over(mpg::chan<int>*& to) {
    to = new mpg::chan<int>;
    start("alive", [c = *to] { (void)c.recv(); });
}
/// Takes the pointer out of a handle: nothing but the result knows the channel then, besides who waits.
std::uint64_t strip(mpg::chan<int>* handle) {
    std::uint64_t core;
    std::memcpy(&core, static_cast<void*>(handle), 8);
    std::memset(static_cast<void*>(handle), 0, 8);
    return core;
}
void restore(mpg::chan<int>* handle, std::uint64_t core) { std::memcpy(static_cast<void*>(handle), &core, 8); }

#if defined(__x86_64__)
std::atomic<int> holding, let_go;

/// The pointer of the handle stands in rbx, or in xmm7, and nowhere else, while this computes or sleeps.
[[gnu::noinline]] void hold_in_register(mpg::chan<int>* handle, way how) {
    if (how == way::by_register)
        asm volatile("movq (%0), %%rbx\n\t"
                     "movq $0, (%0)\n\t"
                     "movl $1, %1\n"
                     "1: pause\n\t"
                     "cmpl $0, %2\n\t"
                     "je 1b\n\t"
                     "movq %%rbx, (%0)\n\t"
                     "xorl %%ebx, %%ebx"
                     :
                     : "r"(handle), "m"(holding), "m"(let_go)
                     : "rbx", "memory", "cc");
    else if (how == way::by_vector)
        asm volatile("movq (%0), %%xmm7\n\t"
                     "movq $0, (%0)\n\t"
                     "movl $1, %1\n"
                     "1: pause\n\t"
                     "cmpl $0, %2\n\t"
                     "je 1b\n\t"
                     "movq %%xmm7, (%0)\n\t"
                     "pxor %%xmm7, %%xmm7"
                     :
                     : "r"(handle), "m"(holding), "m"(let_go)
                     : "xmm7", "memory", "cc");
    else
        asm volatile("movq (%0), %%rbx\n\t" // futex(let_go, FUTEX_WAIT, 0, null)
                     "movq $0, (%0)\n\t"
                     "movl $1, %1\n"
                     "1: movl $202, %%eax\n\t"
                     "leaq %2, %%rdi\n\t"
                     "xorl %%esi, %%esi\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "xorl %%r10d, %%r10d\n\t"
                     "syscall\n\t"
                     "cmpl $0, %2\n\t"
                     "je 1b\n\t"
                     "movq %%rbx, (%0)\n\t"
                     "xorl %%ebx, %%ebx"
                     :
                     : "r"(handle), "m"(holding), "m"(let_go)
                     : "rbx", "rax", "rdi", "rsi", "rdx", "r10", "rcx", "r11", "memory", "cc");
}
TEST_P(prove, not_while_a_register_knows) {
    for (way how : {way::by_register, way::by_vector, way::system_call})
        run([how] {
            holding = let_go = 0;
            mpg::chan<int>* handle = nullptr;
            hand_over(handle);
            until_waiting(1);
            std::thread holder([&] { hold_in_register(handle, how); });
            while (holding == 0) ::sched_yield();
            expect_alive(1);
            let_go = 1;
            ::syscall(SYS_futex, &let_go, 1, 1, nullptr, nullptr, 0);
            holder.join();
            handle->send(1);
            delete handle;
        });
}
#endif

TEST_P(prove, not_while_odd_memory_knows) {
    for (way how : {way::packed, way::tagged, way::locked_page, way::shared_page})
        run([how] {
            mpg::chan<int>* handle = nullptr;
            hand_over(handle);
            until_waiting(1);
            const int flags = how == way::shared_page ? MAP_SHARED : MAP_PRIVATE;
            auto* page = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
            std::uint64_t mask = how == way::tagged ? 0xbeef'0000'0000'0000 : 0;
            char* at = page + (how == way::packed ? 4091 : 128);
            {
                const std::uint64_t core = strip(handle) ^ mask;
                std::memcpy(at, &core, 8);
            }
            overwrite();
            if (how == way::locked_page) ::mprotect(page, 8192, PROT_NONE);
            expect_alive(1);
            if (how == way::locked_page) ::mprotect(page, 8192, PROT_READ);
            std::uint64_t core;
            std::memcpy(&core, at, 8);
            restore(handle, core ^ mask);
            ::munmap(page, 8192);
            handle->send(1);
            delete handle;
        });
}

TEST_P(prove, not_while_a_thread_or_a_blocked_task_knows) {
    run([] {
        int pipe[2];
        ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
        mpg::chan<int>*a = nullptr, *b = nullptr;
        hand_over(a);
        hand_over(b);
        until_waiting(2);
        std::thread plain([mine = *a, in = pipe[0]]() mutable {
            char c;
            EXPECT_EQ(::read(in, &c, 1), 1);
            mine.send(1);
        });
        mpg::wait_group blocked;
        blocked.go([mine = *b, in = pipe[0]]() mutable {
            mpg::blocking([&] {
                char c;
                EXPECT_EQ(::read(in, &c, 1), 1);
            });
            mine.send(1);
        });
        delete a;
        delete b;
        while (mpg::runtime::current()->stats().tasks_blocking < 1) mpg::yield();
        expect_alive(2);
        EXPECT_EQ(::write(pipe[1], "xy", 2), 2);
        plain.join();
        blocked.wait();
        ::close(pipe[0]);
        ::close(pipe[1]);
    });
}

// While everything moves: handles go from hand to hand, so that at any moment somebody has one.
TEST_P(prove, not_while_handles_travel) {
    run([] {
        constexpr int count = 8;
        mpg::chan<mpg::chan<int>> carriers(2);
        std::atomic<bool> stop = false;
        mpg::wait_group all;
        for (int i = 0; i < count; ++i)
            all.go([carriers, &stop] {
                mpg::this_task::set_name("alive");
                while (!stop) {
                    mpg::chan<int> answer;
                    carriers.send(answer);
                    (void)answer.recv(); // the other handle is on its way
                }
            });
        for (int i = 0; i < 2; ++i)
            all.go([carriers] {
                while (auto c = carriers.recv()) {
                    auto moved = std::make_unique<mpg::chan<int>>(std::move(*c));
                    mpg::yield();
                    moved->send(1);
                }
            });
        std::size_t looks = 0;
        for (auto until = mpg::clock::now() + 300ms; mpg::clock::now() < until; ++looks) {
            proof p = mpg::debug::prove_stuck();
            ASSERT_EQ(p.stuck.size(), 0u) << p.stuck[0].why;
            mpg::yield();
        }
        EXPECT_GT(looks, 0u);
        stop = true;
        mpg::go([carriers] { // the senders that wait get their answers; then nobody sends
            while (mpg::runtime::current()->stats().tasks > 4) mpg::yield();
            carriers.close();
        });
        all.wait();
    });
}

// ---- when it cannot be known

TEST(prove_limits, says_when_there_is_too_much_memory) {
    mpg::run([] {
        deep(lose_a_channel);
        until_waiting(1);
        const proof p = mpg::debug::prove_stuck({.most_bytes = 4096});
        EXPECT_NE(p.failure, "");
        EXPECT_EQ(p.stuck.size(), 0u);
    });
}
TEST(prove_limits, a_nil_channel_needs_no_search) {
    mpg::run([] {
        prove::expect_dead(1, [] { start("dead", [] { (void)mpg::chan<int>(nullptr).recv(); }); });
    });
}

} // namespace
