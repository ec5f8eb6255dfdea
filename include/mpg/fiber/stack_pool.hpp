// Stacks: slots of large reserved slabs, with guards that cost no mapping, recycled hot.
//
// A slot is [guard | usable ... top). Slabs are reserved with MAP_NORESERVE, so that a slot costs address space until
// its pages are touched; slots are carved in order and guarded when first handed out. A slot is in one place at a
// time: a task's, a P's cache (stack_cache, its owner only), the pool's free list (lock_), or not carved yet.
//
// Guards. MADV_GUARD_INSTALL (Linux 6.13) marks page-table entries: no mapping is split, so a million guarded stacks
// stand in a few VMAs. Where the kernel refuses it: mprotect, two mappings a slot, up to half of vm.max_map_count;
// beyond that a canary at the low end that is looked at when the stack comes back, and one warning.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/base/valgrind.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

#if defined(MPG_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace mpg::fiber {

enum class guard_kind : std::uint8_t { install, protect, canary };

/// Called for the one warning a pool may give.
inline void warn_unguarded() noexcept {
    constexpr char text[] = "mpg: warning: no more guard pages (vm.max_map_count); further stacks have a canary only\n";
    [[maybe_unused]] auto n = ::write(2, text, sizeof text - 1);
}

/// All stacks of a runtime, of one size. Thread-safe; hot paths go through stack_cache.
class stack_pool {
  public:
    static constexpr std::size_t page = 4096;
    static constexpr std::uint64_t canary = 0x6d70672d63616e61;

    /// bytes: a slot's size with its guard (rounded up to pages, at least 16 KiB). guard: bytes of the guard.
    explicit stack_pool(std::size_t bytes, std::size_t guard = page, guard_kind first = guard_kind::install)
        : guard_(round_up(guard)), slot_(round_up(std::max<std::size_t>(bytes, 16 << 10))), kind_(first),
          protect_budget_(map_budget()) {
        if (slot_ < guard_ + (16 << 10)) slot_ = guard_ + (16 << 10);
    }
    stack_pool(const stack_pool&) = delete;
    stack_pool& operator=(const stack_pool&) = delete;
    ~stack_pool() {
        for (const slab& s : slabs_) {
#if defined(MPG_ASAN)
            __asan_unpoison_memory_region(s.base, s.bytes);
#endif
            ::munmap(s.base, s.bytes);
        }
    }

    /// The low end of a slot, or null when the system gives no more memory.
    char* allocate() noexcept {
        char* stack;
        return allocate(&stack, 1) != 0 ? stack : nullptr;
    }
    /// The low ends of up to n slots, and how many: fewer where few were ever wanted, 0 when the system gives no more
    /// memory. The hottest stands last. The page at the top of each has been touched: who makes a stack ready for a task
    /// may hold the lock of what the last one waits for.
    ///
    /// New ones are guarded and touched without the lock, for the kernel takes its time and several Ps may want some:
    /// once carved, they are known to nobody else. One whose guard is refused although earlier ones were not is never
    /// used; the next is carved as the fallback asks for, under the lock.
    std::size_t allocate(char** out, std::size_t n) noexcept {
        for (;;) {
            char* first;
            {
                std::lock_guard hold(lock_);
                n = std::min(n, 1 + carved_ / 8);
                if (!free_.empty()) return take_free(out, n);
                if (next_ == end_ && !add_slab()) return 0;
                if (kind_ != guard_kind::install) n = 1;
                n = std::min(n, static_cast<std::size_t>(end_ - next_) / slot_);
                first = next_;
                next_ += n * slot_;
                carved_ += n;
                if (kind_ != guard_kind::install) guard(first);
                for (std::size_t i = 0; i < n; ++i) told_.add(first + i * slot_ + guard_, first + (i + 1) * slot_);
                if (kind_ != guard_kind::install) {
                    touch(out[0] = first);
                    return 1;
                }
            }
            const std::size_t made = make_ready(first, n);
            for (std::size_t i = 0; i < made; ++i) out[n - 1 - i] = first + i * slot_;
            if (made == n) return n;
            std::lock_guard hold(lock_);
            kind_ = std::max(kind_, guard_kind::protect); // an older kernel, a filter, or locked memory
            carved_ -= n - made;
            if (made != 0) {
                std::memmove(out, out + (n - made), made * sizeof *out);
                return made;
            }
        }
    }
    /// Takes n slots back in one go, hottest last.
    void release(char* const* stacks, std::size_t n) noexcept {
        std::lock_guard hold(lock_);
        if (kind_ == guard_kind::canary)
            for (std::size_t i = 0; i < n; ++i)
                if (unguarded(stacks[i])) check_canary(stacks[i]);
        free_.insert(free_.end(), stacks, stacks + n); // never allocates: carve reserved the room
    }
    /// Gives the pages of idle stacks beyond `keep` back to the system, contiguous ones in one call. For a
    /// housekeeper: the lock is held during the system calls of at most 1024 stacks. How many it has given back.
    std::size_t trim(std::size_t keep) noexcept {
        std::lock_guard hold(lock_);
        if (free_.size() <= keep + trimmed_) {
            trimmed_ = std::min(trimmed_, free_.size());
            return 0;
        }
        // The coldest stand in front; [0, trimmed_) have no pages already.
        std::size_t n = std::min<std::size_t>(free_.size() - keep - trimmed_, 1024);
        auto first = free_.begin() + static_cast<std::ptrdiff_t>(trimmed_);
        auto last = first + static_cast<std::ptrdiff_t>(n);
        std::sort(first, last);
        for (auto it = first; it != last;) {
            auto end = it + 1;
            while (end != last && *end == *(end - 1) + slot_) ++end;
            // Guards survive MADV_DONTNEED, of either kind; a canary is written again when the slot is handed out.
            ::madvise(*it, static_cast<std::size_t>(end - it) * slot_, MADV_DONTNEED);
            it = end;
        }
        trimmed_ += n;
        return n;
    }

    /// Calls f(low, high) for each reservation, whose slots stand from low on without a gap. False: another thread, which
    /// may stand still, holds the lock.
    template <class F> bool try_each_slab(F f) const noexcept {
        if (!lock_.try_lock()) return false;
        for (const slab& s : slabs_) f(s.base, s.base + s.bytes);
        lock_.unlock();
        return true;
    }

    std::size_t slot_bytes() const noexcept { return slot_; }
    std::size_t guard_bytes() const noexcept { return guard_; }
    guard_kind kind() const noexcept { return kind_; }
    std::size_t mapped_bytes() const noexcept {
        std::lock_guard hold(lock_);
        std::size_t sum = 0;
        for (const slab& s : slabs_) sum += s.bytes;
        return sum;
    }
    /// Slots that were ever handed out and are not trimmed: each has touched at least a page.
    std::size_t touched_slots() const noexcept {
        std::lock_guard hold(lock_);
        return carved_ - trimmed_;
    }

    /// Of those, the ones that nobody has.
    std::size_t idle_slots() const noexcept {
        std::lock_guard hold(lock_);
        return free_.size() - std::min(trimmed_, free_.size());
    }

    /// The first byte above the stack whose low end this is. Tops are coloured (16 steps of 128 bytes), so that the
    /// hot lines of many stacks do not fall into the same cache sets; the colour is small enough for a task that
    /// waits to stay within one page.
    char* top(char* stack) const noexcept {
        auto index = reinterpret_cast<std::uintptr_t>(stack) / slot_;
        return stack + slot_ - (index % 16) * 128;
    }
    /// Is addr in the guard of the stack with this low end?
    bool in_guard(const char* stack, const void* addr) const noexcept {
        auto* a = static_cast<const char*>(addr);
        return a >= stack && a < stack + guard_;
    }

  private:
    struct slab {
        char* base;
        std::size_t bytes;
    };

    static constexpr int guard_install = 102; // MADV_GUARD_INSTALL, Linux 6.13
    static constexpr int populate_write = 23; // MADV_POPULATE_WRITE, Linux 5.14

    static constexpr std::size_t round_up(std::size_t n) noexcept { return (n + page - 1) / page * page; }

    static std::size_t map_budget() noexcept {
        long limit = 65530;
        if (int fd = ::open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC); fd >= 0) {
            char text[32] = {};
            if (::read(fd, text, sizeof text - 1) > 0) limit = std::atol(text);
            ::close(fd);
        }
        return static_cast<std::size_t>(std::max(0L, (limit - 5000) / 4)); // each guard splits a mapping in two
    }

    // Under lock_. Slots carved since the pool ran out of guards: the rest of one slab, and whole later ones.
    bool unguarded(const char* stack) const noexcept {
        return std::any_of(unguarded_.begin(), unguarded_.end(),
                           [&](const slab& s) { return stack >= s.base && stack < s.base + s.bytes; });
    }
    static void check_canary(const char* stack) noexcept {
        std::uint64_t word;
        std::memcpy(&word, stack, sizeof word);
        if (word != canary) {
            constexpr char text[] = "fatal error: a task overran its stack (canary)\n";
            [[maybe_unused]] auto n = ::write(2, text, sizeof text - 1);
            std::abort();
        }
    }

    // Under lock_. Precondition: there are some.
    std::size_t take_free(char** out, std::size_t n) noexcept {
        n = std::min(n, free_.size());
        const std::size_t left = free_.size() - n;
        std::copy(free_.end() - static_cast<std::ptrdiff_t>(n), free_.end(), out);
        for (; trimmed_ > left; --trimmed_) { // its pages come back zeroed
            char* stack = free_[trimmed_ - 1];
            if (unguarded(stack)) std::memcpy(stack, &canary, sizeof canary);
            touch(stack);
        }
        free_.resize(left);
        return n;
    }
    bool add_slab() noexcept {
        std::size_t want = std::max<std::size_t>(slot_, (64u << 20) / slot_ * slot_);
        for (; want >= slot_; want = want / 2 / slot_ * slot_) {
            void* base = ::mmap(nullptr, want, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
            if (base == MAP_FAILED) continue; // RLIMIT_AS, strict overcommit: try less
            ::madvise(base, want, MADV_NOHUGEPAGE);
            try {
                slabs_.push_back({static_cast<char*>(base), want});
                free_.reserve(carved_ + want / slot_);
                unguarded_.reserve(slabs_.capacity() + 1);
                if (kind_ == guard_kind::canary) unguarded_.push_back(slabs_.back());
            } catch (...) {
                if (!slabs_.empty() && slabs_.back().base == base) slabs_.pop_back();
                ::munmap(base, want);
                return false;
            }
            next_ = static_cast<char*>(base);
            end_ = next_ + want;
            return true;
        }
        return false;
    }
    void touch([[maybe_unused]] char* stack) const noexcept {
#if !defined(MPG_ASAN) // there a stack that was in use before may still have poisoned bytes
        *static_cast<volatile char*>(stack + slot_ - 1) = 0;
#endif
    }
    // Guards n slots that stand side by side and touches their tops; how many got a guard. Without the lock. One call for
    // each of the two instead of a call and a fault for each slot: that spares a quarter of program/create_1m. Where the
    // system does not know or allow it, one after the other.
    std::size_t make_ready(char* first, std::size_t n) const noexcept {
        std::size_t made = n > 1 ? advise_all(first, guard_, n, guard_install) : 0;
        while (made < n && ::madvise(first + made * slot_, guard_, guard_install) == 0) ++made;
#if !defined(MPG_ASAN) // as touch
        std::size_t touched = made > 1 ? advise_all(first + slot_ - page, page, made, populate_write) : 0;
        for (; touched < made; ++touched) touch(first + touched * slot_);
#endif
        return made;
    }
    // The same advice for `bytes` at the same place in each of n slots; how many have taken it.
    std::size_t advise_all(char* at, std::size_t bytes, std::size_t n, int advice) const noexcept {
#if defined(SYS_process_madvise)
        if (!several_at_once_) return 0;
        constexpr std::size_t most = 32;
        constexpr int ourselves = -10000; // PIDFD_SELF_THREAD, Linux 6.14; EBADF before
        ::iovec places[most];
        n = std::min(n, most);
        for (std::size_t i = 0; i < n; ++i) places[i] = {at + i * slot_, bytes};
        const long advised = ::syscall(SYS_process_madvise, ourselves, places, n, advice, 0);
        return advised > 0 ? static_cast<std::size_t>(advised) / bytes : 0;
#else
        return 0;
#endif
    }
    // Under lock_, where guards cannot be installed.
    void guard(char* stack) noexcept {
        if (kind_ == guard_kind::protect) {
            if (protected_ < protect_budget_ && ::mprotect(stack, guard_, PROT_NONE) == 0) {
                ++protected_;
                return;
            }
            kind_ = guard_kind::canary;
            unguarded_.push_back({stack, static_cast<std::size_t>(end_ - stack)});
            warn_unguarded();
        }
        std::memcpy(stack, &canary, sizeof canary);
    }

    const std::size_t guard_;
    std::size_t slot_;
    mutable base::spinlock lock_; // guards all below
    std::vector<slab> slabs_;
    std::vector<slab> unguarded_;
    std::vector<char*> free_;
    char* next_ = nullptr; // the rest of the newest slab
    char* end_ = nullptr;
    std::size_t carved_ = 0;
    std::size_t trimmed_ = 0; // as many at the front of free_ have no pages
    guard_kind kind_;
    std::size_t protect_budget_;
    const bool several_at_once_ = !base::under_valgrind(); // which does not know the call, and would say so
    std::size_t protected_ = 0;
    base::valgrind_stacks told_;
};

/// A P's own stacks: last in, first out, so that the next task gets the one whose pages and cache lines are hot.
class stack_cache {
  public:
    explicit stack_cache(stack_pool& pool) noexcept : pool_(&pool) {}

    char* allocate() noexcept {
        std::size_t n = size();
        if (n == 0) [[unlikely]] {
            n = pool_->allocate(stacks_, capacity / 2);
            if (n == 0) return nullptr;
        }
        n_.store(n - 1, std::memory_order_relaxed);
        return stacks_[n - 1];
    }
    void release(char* stack) noexcept {
        std::size_t n = size();
        if (n == capacity) [[unlikely]] {
            pool_->release(stacks_, capacity / 2);
            std::memmove(stacks_, stacks_ + capacity / 2, sizeof stacks_ / 2);
            n = capacity / 2;
        }
        stacks_[n] = stack;
        n_.store(n + 1, std::memory_order_relaxed);
    }
    /// For anybody.
    std::size_t size() const noexcept { return n_.load(std::memory_order_relaxed); }
    stack_pool& pool() const noexcept { return *pool_; }

  private:
    static constexpr std::size_t capacity = 64;
    stack_pool* pool_;
    base::atomic<std::size_t> n_{0}; // the owner's
    char* stacks_[capacity];
};

} // namespace mpg::fiber
