// Where the process spends its CPU time.
//
// Every thread gets a timer of its own CPU clock, whose signal (SIGPROF) goes to that thread: a process-wide timer
// favours the main thread on kernels before 6.4. The handler copies registers and the top of the stack into a slot of
// a ring; whoever profiles unwinds the copies a few times a second. As `perf record --call-graph dwarf` does it, so
// code without frame pointers is fine, and the handler calls nothing that could lock.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/debug/capture.hpp>
#include <mpg/debug/profile.hpp>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <dirent.h>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <signal.h>
#include <sys/syscall.h>
#include <system_error>
#include <time.h>
#include <unistd.h>

namespace mpg::debug::detail {

class cpu_profiler {
  public:
    static constexpr std::int64_t period = 10'000'000; // ns: 100 Hz, as Go's

    static cpu_profiler& instance() {
        static cpu_profiler& p = *new cpu_profiler;
        return p;
    }

    /// False: somebody profiles already, or SIGPROF is taken.
    bool start() {
        if (busy_.exchange(true, std::memory_order_acquire)) return false; // pairs with: stop
        struct ::sigaction old{};
        if (::sigaction(SIGPROF, nullptr, &old) != 0 || (old.sa_handler != SIG_DFL && old.sa_sigaction != &handle)) {
            busy_.store(false, std::memory_order_release);
            return false;
        }
        struct ::sigaction action{};
        action.sa_sigaction = &handle;
        action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
        ::sigfillset(&action.sa_mask);
        ::sigaction(SIGPROF, &action, nullptr);
        if (!ring_) ring_ = std::make_unique<slot[]>(slots);
        counts_.clear();
        lost_.store(0, std::memory_order_relaxed);
        on_.store(true, std::memory_order_release); // pairs with: handle
        started_ = std::chrono::system_clock::now();
        since_ = base::now();
        tick();
        return true;
    }
    /// To be called about every 50 ms while it is on: looks for new threads, and unwinds what has come.
    void tick() {
        watch_threads();
        drain();
    }
    profile stop() {
        for (auto& [tid, timer] : timers_) ::syscall(SYS_timer_delete, timer);
        timers_.clear();
        on_.store(false, std::memory_order_release);
        drain();
        profile p;
        p.types = {{"samples", "count"}, {"cpu", "nanoseconds"}};
        p.period_type = {"cpu", "nanoseconds"};
        p.period = period;
        p.start = started_;
        p.duration = std::chrono::nanoseconds(base::now() - since_);
        for (auto& [stack, n] : counts_) p.samples.push_back({stack, {n, n * period}});
        if (auto n = lost_.load(std::memory_order_relaxed)) p.comments.push_back(std::to_string(n) + " samples were lost");
        // The handler stays: a signal that is late must find it.
        busy_.store(false, std::memory_order_release); // pairs with: start
        return p;
    }

  private:
    static constexpr std::size_t slots = 128, bytes = 32 << 10;
    /// free -> filling (a handler, by exchange) -> filled (the handler) -> free (the profiler).
    struct slot {
        base::atomic<int> word{0};
        register_set registers;
        std::uint64_t base = 0;
        std::size_t size = 0;
        int weight = 1;
        std::byte stack[bytes];
    };

    static void handle(int, ::siginfo_t* info, void* context) noexcept {
        cpu_profiler& p = instance();
        if (info->si_code != SI_TIMER || !p.on_.load(std::memory_order_acquire)) return; // pairs with: start
        int saved = errno;
        p.sample(*static_cast<::ucontext_t*>(context), info->si_overrun);
        errno = saved;
    }
    void sample(const ::ucontext_t& context, int overrun) noexcept {
        std::size_t first = next_.fetch_add(1, std::memory_order_relaxed);
        for (std::size_t i = 0; i < slots; ++i) {
            slot& s = ring_[(first + i) % slots];
            int free = 0;
            if (!s.word.compare_exchange_strong(free, 1, std::memory_order_acquire)) continue; // pairs with: drain
            s.registers = registers_of(context);
            s.base = s.registers.sp() & ~std::uint64_t{7};
            s.size = copy_mapped(s.stack, s.base, bytes);
            s.weight = 1 + (overrun > 0 ? overrun : 0);
            s.word.store(2, std::memory_order_release); // pairs with: drain
            return;
        }
        lost_.fetch_add(1, std::memory_order_relaxed);
    }
    void drain() {
        for (std::size_t i = 0; i < slots; ++i) {
            slot& s = ring_[i];
            if (s.word.load(std::memory_order_acquire) != 2) continue; // pairs with: sample
            unwinder_.unwind(s.registers, {s.base, s.stack, s.size}, frames_);
            counts_[frames_] += s.weight;
            s.word.store(0, std::memory_order_release); // pairs with: sample
        }
    }
    void watch_threads() {
        ::DIR* d = ::opendir("/proc/self/task");
        if (!d) return;
        std::set<int> alive;
        while (::dirent* e = ::readdir(d))
            if (int tid = std::atoi(e->d_name); tid > 0) alive.insert(tid);
        ::closedir(d);
        for (auto it = timers_.begin(); it != timers_.end();)
            if (alive.count(it->first)) {
                ++it;
            } else {
                ::syscall(SYS_timer_delete, it->second);
                it = timers_.erase(it);
            }
        for (int tid : alive) {
            if (timers_.count(tid)) continue;
            ::sigevent e{};
            e.sigev_notify = SIGEV_THREAD_ID;
            e.sigev_signo = SIGPROF;
#if defined(sigev_notify_thread_id)
            e.sigev_notify_thread_id = tid;
#else
            e._sigev_un._tid = tid;
#endif
            int timer = 0; // the kernel's type
            auto clock = static_cast<::clockid_t>(~static_cast<unsigned>(tid) << 3 | 6); // CPU time of that thread
            if (::syscall(SYS_timer_create, clock, &e, &timer) != 0) continue;        // it has ended
            ::itimerspec every{{0, period}, {0, period}};
            if (::syscall(SYS_timer_settime, timer, 0, &every, nullptr) != 0) {
                ::syscall(SYS_timer_delete, timer);
                continue;
            }
            timers_[tid] = timer;
        }
    }

    base::atomic<bool> busy_{false}; // guards what is not atomic
    base::atomic<bool> on_{false};
    base::atomic<std::size_t> next_{0};
    base::atomic<std::uint64_t> lost_{0};
    std::unique_ptr<slot[]> ring_;
    std::map<int, int> timers_; // by thread
    std::map<call_stack, std::int64_t> counts_;
    unwinder unwinder_;
    call_stack frames_;
    std::chrono::system_clock::time_point started_{};
    base::nanos since_ = 0;
};

} // namespace mpg::debug::detail
