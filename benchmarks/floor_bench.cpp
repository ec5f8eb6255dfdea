// What this machine asks for in any case: the operations of which the others are made. Nothing here is the
// library but the bare switch; suite/floors.csv says how many of them a case is made of, at the least.
#include <benchmark/benchmark.h>
#include <mpg/fiber/context.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <linux/futex.h>
#include <memory>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace {

std::int64_t count(const benchmark::State& state) { return static_cast<std::int64_t>(state.max_iterations); }

// One iteration: one instruction with a lock prefix (LL/SC or LSE elsewhere), on a line of our own.
void locked_operation(benchmark::State& state) {
    alignas(64) std::atomic<std::uint64_t> word{0};
    while (state.KeepRunningBatch(count(state)))
        for (std::int64_t k = 0; k < count(state); ++k) word.fetch_add(1, std::memory_order_acq_rel);
}
BENCHMARK(locked_operation)->Name("floor/locked_operation")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: a value put into or taken from a ring under a spinlock, with a look at who waits and whether
// it is closed: a channel's fast path, without a channel.
class ring {
  public:
    bool put(int v) {
        lock();
        const bool ok = !closed_ && !waiters_ && size_ < values_.size();
        if (ok) values_[(first_ + size_++) % values_.size()] = v;
        unlock();
        return ok;
    }
    bool take(int& v) {
        lock();
        const bool ok = !waiters_ && size_ > 0;
        if (ok) {
            v = values_[first_];
            first_ = (first_ + 1) % values_.size();
            --size_;
        }
        unlock();
        return ok;
    }

  private:
    void lock() {
        while (lock_.exchange(true, std::memory_order_acquire)) // pairs with: unlock
            while (lock_.load(std::memory_order_relaxed)) {
            }
    }
    void unlock() { lock_.store(false, std::memory_order_release); } // pairs with: lock

    std::atomic<bool> lock_{false};
    bool closed_ = false;
    void* waiters_ = nullptr;
    std::size_t first_ = 0, size_ = 0;
    std::array<int, 128> values_{};
};
void channel_operation(benchmark::State& state) {
    auto c = std::make_unique<ring>();
    benchmark::DoNotOptimize(c.get());
    while (state.KeepRunningBatch(count(state))) {
        for (std::int64_t left = count(state); left > 0; left -= 200) {
            const std::int64_t batch = std::min<std::int64_t>(left / 2, 100);
            for (std::int64_t k = 0; k < batch; ++k) benchmark::DoNotOptimize(c->put(0));
            for (std::int64_t k = 0; k < batch; ++k) {
                int v = 0;
                c->take(v);
                benchmark::DoNotOptimize(v);
            }
        }
    }
}
BENCHMARK(channel_operation)->Name("floor/channel_operation")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: one switch between two stacks; nothing is scheduled.
mpg::fiber::context here, there;
void bounce() noexcept {
    for (;;) mpg::fiber::jump(there, here);
}
void bare_switch(benchmark::State& state) {
    alignas(64) static std::array<std::byte, 64 << 10> stack;
    there = mpg::fiber::make<bounce>(stack.data() + stack.size(), stack.size());
    while (state.KeepRunningBatch(count(state)))
        for (std::int64_t k = 0; k < count(state); k += 2) mpg::fiber::jump(here, there);
}
BENCHMARK(bare_switch)->Name("floor/bare_switch")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: the cheapest system call.
void system_call(benchmark::State& state) {
    while (state.KeepRunningBatch(count(state)))
        for (std::int64_t k = 0; k < count(state); ++k) ::syscall(SYS_getppid);
}
BENCHMARK(system_call)->Name("floor/system_call")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: one look at the clock.
void clock_read(benchmark::State& state) {
    while (state.KeepRunningBatch(count(state)))
        for (std::int64_t k = 0; k < count(state); ++k)
            benchmark::DoNotOptimize(std::chrono::steady_clock::now());
}
BENCHMARK(clock_read)->Name("floor/clock_read")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: one thread wakes another one, which wakes it: two futex wakes and two waits.
void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value,
              nullptr, nullptr, 0);
}
void wait_until(std::atomic<std::uint32_t>& turn, std::uint32_t wanted) {
    for (std::uint32_t now; (now = turn.load(std::memory_order_acquire)) != wanted;) // pairs with: pass
        futex(turn, FUTEX_WAIT, now);
}
void pass(std::atomic<std::uint32_t>& turn, std::uint32_t to) {
    turn.store(to, std::memory_order_release); // pairs with: wait_until
    futex(turn, FUTEX_WAKE, 1);
}
void futex_round_trip(benchmark::State& state) {
    std::atomic<std::uint32_t> turn{0};
    while (state.KeepRunningBatch(count(state))) {
        std::thread other([&] {
            for (std::int64_t k = 0; k < count(state); ++k) {
                wait_until(turn, 1);
                pass(turn, 0);
            }
        });
        for (std::int64_t k = 0; k < count(state); ++k) {
            pass(turn, 1);
            wait_until(turn, 0);
        }
        other.join();
    }
}
BENCHMARK(futex_round_trip)->Name("floor/futex_round_trip")->UseRealTime()->MeasureProcessCPUTime();

// One iteration: the first touch of a page, of 256 MiB.
void fresh_page(benchmark::State& state) {
    constexpr std::size_t page = 4096, pages = 65'536;
    while (state.KeepRunningBatch(pages)) {
        void* at = ::mmap(nullptr, page * pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return state.SkipWithError("no memory");
        ::madvise(at, page * pages, MADV_NOHUGEPAGE);
        for (std::size_t i = 0; i < pages; ++i) static_cast<volatile char*>(at)[i * page] = 1;
        state.PauseTiming();
        ::munmap(at, page * pages);
        state.ResumeTiming();
    }
}
BENCHMARK(fresh_page)->Name("floor/fresh_page")->UseRealTime()->MeasureProcessCPUTime()->Iterations(65'536);

} // namespace
