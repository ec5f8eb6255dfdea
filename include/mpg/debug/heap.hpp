// Who allocates, and who keeps it: a sampled profile of what goes through operator new, for programs that ask for it.
//
//   #include <mpg/debug.hpp>
//   MPG_PROFILE_HEAP                                 in one source file of the program, outside all namespaces
//
//   go tool pprof http://localhost:8080/debug/pprof/heap        or .../allocs
//
// The macro defines the replaceable functions of the C++ library, operator new and delete, on top of malloc and free of
// whatever allocator there is. Without it nothing here is on any path. Memory that C code takes by malloc, and tasks'
// stacks, are not seen. Under sanitizers, which bring these functions themselves, it stands for nothing.
//
// Bytes are sampled as in Go's runtime: points are strewn over the stream of all bytes that a thread allocates, 512 KiB
// apart in the mean, at random (a Poisson process); a block that covers one is taken, with its stack. So a block of n bytes is
// taken with the probability p = 1 - exp(-n / rate), and counts for 1 / p blocks.
//
// A block that was taken begins on a page of its own. So operator delete sees from the address alone that most
// blocks were not, and touches no memory for that; only for the others it looks into the table of those that live.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/random.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/debug/own_stack.hpp>
#include <mpg/debug/profile.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mpg::debug {

namespace detail {

/// Of a thread. Used only in functions that are not inlined and do not wait: no task carries its address to another one.
struct heap_account {
    std::size_t left = 0; // bytes until the next point
    bool begun = false;
    bool busy = false; // this thread is in the profiler: what it allocates there is not counted
};
inline constinit thread_local heap_account this_heap_account;

class heap_profiler {
  public:
    static constexpr std::int64_t usual_rate = 512 << 10;
    static constexpr std::size_t page = 4096;

    struct count {
        std::int64_t blocks = 0, bytes = 0; // allocated; blocks in 256ths
        std::int64_t freed_blocks = 0, freed_bytes = 0;
    };
    using counts = std::map<call_stack, count>;

    /// Null: the program does not profile its heap.
    static heap_profiler* get() noexcept { return instance_.load(std::memory_order_acquire); } // pairs with: make

    std::int64_t set_rate(std::int64_t n) noexcept { return rate_.exchange(n, std::memory_order_relaxed); }
    std::int64_t rate() const noexcept { return rate_.load(std::memory_order_relaxed); }
    std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

    counts take() {
        counts all;
        for (shard& s : shards_) {
            std::vector<std::pair<call_stack, count>> some;
            {
                unnoticed self; // allocates under the lock
                std::lock_guard hold(s.lock);
                some.reserve(s.sites.size());
                for (auto& [stack, at] : s.sites) {
                    // Never more than was allocated: that is added under the lock, before it can be freed.
                    some.emplace_back(stack, count{at.blocks, at.bytes, at.freed_blocks.load(std::memory_order_relaxed),
                                                   at.freed_bytes.load(std::memory_order_relaxed)});
                }
            }
            for (auto& [stack, c] : some) {
                count& sum = all[stack];
                sum.blocks += c.blocks;
                sum.bytes += c.bytes;
                sum.freed_blocks += c.freed_blocks;
                sum.freed_bytes += c.freed_bytes;
            }
        }
        return all;
    }

    // What operator new and delete call.

    /// Bytes to the next point.
    static std::size_t draw() noexcept {
        heap_profiler* p = get();
        const std::int64_t rate = p ? p->rate() : usual_rate;
        if (rate <= 0) return static_cast<std::size_t>(usual_rate); // off: look again then
        if (rate == 1) return 0;                                    // all, none twice
        static base::atomic<std::uint64_t> seed{static_cast<std::uint64_t>(base::now())};
        const std::uint64_t bits = base::random(seed.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed)).next();
        const double uniform = static_cast<double>((bits >> 11) + 1) * 0x1p-53; // (0, 1]
        return static_cast<std::size_t>(-std::log(uniform) * static_cast<double>(rate));
    }
    static heap_profiler* make() noexcept {
        if (heap_profiler* p = get()) return p;
        auto* fresh = new (std::nothrow) heap_profiler; // the caller is unnoticed
        heap_profiler* there = nullptr;
        if (instance_.compare_exchange_strong(there, fresh, std::memory_order_acq_rel)) return fresh; // pairs with: get
        delete fresh;
        return there;
    }

    /// Block `at` of n bytes was taken. The caller is unnoticed.
    void note(void* at, std::size_t n, const void* caller, const register_set& here) noexcept {
        const std::int64_t mean = rate();
        if (mean <= 0) return;
        auto* b = static_cast<block*>(std::malloc(sizeof(block)));
        const double p = mean == 1 ? 1.0 : -std::expm1(-static_cast<double>(n) / static_cast<double>(mean));
        const auto blocks = static_cast<std::int64_t>(256 / p + 0.5);
        const auto bytes = static_cast<std::int64_t>(static_cast<double>(n) / p + 0.5);
        if (site* where = b ? add(blocks, bytes, caller, here) : nullptr) {
            *b = {nullptr, disguised(at), where, blocks, bytes};
            bucket& home = bucket_of(b->address);
            std::lock_guard hold(home.lock);
            b->next = home.first.load(std::memory_order_relaxed);
            home.first.store(b, std::memory_order_relaxed);
            return;
        }
        std::free(b);
        lost_.fetch_add(1, std::memory_order_relaxed);
    }
    /// The block at the beginning of a page is about to be freed.
    void forget(void* at) noexcept {
        const std::uint64_t address = disguised(at);
        bucket& home = bucket_of(address);
        // Who frees a block knows of its allocation, and so of the entry.
        if (!home.first.load(std::memory_order_relaxed)) return;
        block* found = nullptr;
        {
            std::lock_guard hold(home.lock);
            block* before = nullptr;
            for (found = home.first.load(std::memory_order_relaxed); found && found->address != address; found = found->next)
                before = found;
            if (!found) return;
            if (before)
                before->next = found->next;
            else
                home.first.store(found->next, std::memory_order_relaxed);
        }
        found->where->freed_bytes.fetch_add(found->bytes, std::memory_order_relaxed);
        found->where->freed_blocks.fetch_add(found->blocks, std::memory_order_relaxed);
        std::free(found);
    }

    /// In its extent nothing that the thread allocates is counted.
    struct unnoticed {
        unnoticed() noexcept { set(true); }
        ~unnoticed() { set(false); }
        unnoticed(const unnoticed&) = delete;
        unnoticed& operator=(const unnoticed&) = delete;

      private:
        MPG_NOINLINE static void set(bool busy) noexcept { this_heap_account.busy = busy; }
    };

  private:
    struct site {
        std::int64_t blocks = 0, bytes = 0; // the shard's lock
        base::atomic<std::int64_t> freed_blocks{0}, freed_bytes{0};
    };
    struct alignas(base::cache_line) shard {
        base::spinlock lock; // guards all below. Who holds it is not preempted, and may allocate: others take other shards
        own_stack stack;
        std::unordered_map<call_stack, site, hash_frames> sites; // never erased: blocks point to them
    };
    struct block { // one that was taken and lives
        block* next;
        std::uint64_t address; // not as it is: it would look as if somebody knew the block (prove.hpp)
        site* where;
        std::int64_t blocks, bytes;
    };
    struct bucket {
        base::spinlock lock;
        base::atomic<block*> first{nullptr}; // and all of the list: lock; read without, to see that it is empty
    };
    static constexpr std::size_t shard_count = 16, bucket_count = 1 << 13;

    static std::uint64_t disguised(const void* at) noexcept { return ~reinterpret_cast<std::uint64_t>(at); }
    bucket& bucket_of(std::uint64_t address) noexcept {
        return buckets_[base::random(address).next() % bucket_count];
    }
    site* add(std::int64_t blocks, std::int64_t bytes, const void* caller, const register_set& here) noexcept {
        const std::size_t first = std::hash<const void*>{}(&this_heap_account) / 64;
        for (std::size_t i = 0; i < shard_count; ++i) {
            shard& s = shards_[(first + i) % shard_count];
            if (!s.lock.try_lock()) continue;
            std::lock_guard hold(s.lock, std::adopt_lock);
            try {
                site& at = s.sites[s.stack.from(caller, here)];
                at.blocks += blocks;
                at.bytes += bytes;
                return &at;
            } catch (...) { // no memory
                return nullptr;
            }
        }
        return nullptr;
    }

    inline static constinit base::atomic<heap_profiler*> instance_{nullptr};
    base::atomic<std::int64_t> rate_{usual_rate};
    base::atomic<std::uint64_t> lost_{0};
    shard shards_[shard_count];
    bucket buckets_[bucket_count];
};

MPG_ALWAYS_INLINE void* heap_block(std::size_t n, std::size_t alignment) noexcept {
    if (alignment == 0) [[likely]] return std::malloc(n);
    void* p = nullptr;
    return ::posix_memalign(&p, std::max(alignment, sizeof(void*)), n) == 0 ? p : nullptr;
}
/// A point was reached, or there is no memory.
MPG_NOINLINE inline void* heap_new_slow(std::size_t n, std::size_t alignment, const void* caller) {
    heap_account& own = this_heap_account;
    bool taken = false;
    if (!own.busy && n > own.left) {
        if (!std::exchange(own.begun, true)) {
            heap_profiler::unnoticed self;
            (void)heap_profiler::make();
            own.left = heap_profiler::draw();
        }
        taken = n > own.left;
        own.left = taken ? heap_profiler::draw() : own.left - n;
    }
    if (taken) alignment = std::max(alignment, heap_profiler::page);
    void* p = nullptr;
    while (!(p = heap_block(n, alignment))) {
        const std::new_handler handler = std::get_new_handler();
        if (!handler) throw std::bad_alloc();
        handler();
    }
    if (taken) {
        heap_profiler::unnoticed self;
        if (heap_profiler* profiler = heap_profiler::get()) profiler->note(p, n, caller, registers_here());
    }
    return p;
}
/// alignment 0: that of malloc.
MPG_ALWAYS_INLINE void* heap_new(std::size_t n, std::size_t alignment, const void* caller) {
    n += n == 0; // every block has an address of its own
    heap_account& own = this_heap_account;
    if (n <= own.left) [[likely]] {
        own.left -= n;
        if (void* p = heap_block(n, alignment)) [[likely]] return p;
    }
    return heap_new_slow(n, alignment, caller);
}
MPG_NOINLINE inline void heap_forget(void* p) noexcept {
    if (this_heap_account.busy) return; // the profiler's own, or under its lock
    if (heap_profiler* profiler = heap_profiler::get()) profiler->forget(p);
}
MPG_ALWAYS_INLINE void heap_delete(void* p) noexcept {
    if (reinterpret_cast<std::uintptr_t>(p) % heap_profiler::page == 0) [[unlikely]]
        if (p) heap_forget(p);
    std::free(p);
}

/// What is in use, and all that was ever allocated.
inline profile heap_profile(heap_profiler& from) {
    profile p;
    p.types = {{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}};
    // So that a block counts for the function that wanted it.
    p.not_shown = R"(operator new(\[\])?|std::(__new_allocator|allocator|allocator_traits)<.*>::allocate|)"
                  R"(std::_Vector_base<.*>::_M_(allocate|create_storage)|std::(__cxx11::)?basic_string<.*>::_M_create|)"
                  R"(std::__allocate_guarded<.*>|std::__detail::_Hashtable_alloc<.*>::_M_allocate_.*)";
    p.period_type = {"space", "bytes"};
    p.period = from.rate();
    p.start = std::chrono::system_clock::now();
    for (const auto& [stack, n] : from.take())
        p.samples.push_back(
            {stack, {(n.blocks + 128) >> 8, n.bytes, (n.blocks - n.freed_blocks + 128) >> 8, n.bytes - n.freed_bytes}});
    std::sort(p.samples.begin(), p.samples.end(), [](const auto& a, const auto& b) { return a.values[3] > b.values[3]; });
    if (auto n = from.lost()) p.comments.push_back(std::to_string(n) + " samples were lost");
    return p;
}

} // namespace detail

/// As Go's runtime.MemProfileRate: one sample for each `rate` bytes that are allocated, in the mean, 512 KiB if nothing is
/// said. 1: every block; 0: none. Returns what it was. Best called once, early: a thread takes notice at its next
/// sample. 0 and does nothing in a program without MPG_PROFILE_HEAP.
inline std::int64_t set_heap_profile_rate(std::int64_t rate) {
    if (!detail::heap_profiler::get()) ::operator delete(::operator new(1)); // perhaps that is the first one
    detail::heap_profiler* p = detail::heap_profiler::get();
    return p ? p->set_rate(std::max<std::int64_t>(rate, 0)) : 0;
}

} // namespace mpg::debug

/// Once in a program, in a source file, outside all namespaces: its operator new and delete, with a profile.
#if defined(MPG_ASAN) || defined(MPG_TSAN)
#define MPG_PROFILE_HEAP
#else
#define MPG_PROFILE_HEAP                                                                                                     \
    MPG_DETAIL_NEW_AND_DELETE(new, delete)                                                                                   \
    MPG_DETAIL_NEW_AND_DELETE(new[], delete[])
#endif

// The address of the caller is that of the outermost function: none of them calls another.
#define MPG_DETAIL_NEW_AND_DELETE(new_, delete_)                                                                             \
    [[gnu::noinline]] void* operator new_(std::size_t n) {                                                                   \
        return ::mpg::debug::detail::heap_new(n, 0, __builtin_return_address(0));                                            \
    }                                                                                                                        \
    [[gnu::noinline]] void* operator new_(std::size_t n, std::align_val_t a) {                                               \
        return ::mpg::debug::detail::heap_new(n, static_cast<std::size_t>(a), __builtin_return_address(0));                  \
    }                                                                                                                        \
    [[gnu::noinline]] void* operator new_(std::size_t n, const std::nothrow_t&) noexcept {                                   \
        try {                                                                                                                \
            return ::mpg::debug::detail::heap_new(n, 0, __builtin_return_address(0));                                        \
        } catch (...) {                                                                                                      \
            return nullptr;                                                                                                  \
        }                                                                                                                    \
    }                                                                                                                        \
    [[gnu::noinline]] void* operator new_(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {               \
        try {                                                                                                                \
            return ::mpg::debug::detail::heap_new(n, static_cast<std::size_t>(a), __builtin_return_address(0));              \
        } catch (...) {                                                                                                      \
            return nullptr;                                                                                                  \
        }                                                                                                                    \
    }                                                                                                                        \
    [[gnu::noinline]] void operator delete_(void* p) noexcept { ::mpg::debug::detail::heap_delete(p); }                      \
    [[gnu::noinline]] void operator delete_(void* p, std::size_t) noexcept { ::mpg::debug::detail::heap_delete(p); }         \
    [[gnu::noinline]] void operator delete_(void* p, std::align_val_t) noexcept { ::mpg::debug::detail::heap_delete(p); }    \
    [[gnu::noinline]] void operator delete_(void* p, std::size_t, std::align_val_t) noexcept {                               \
        ::mpg::debug::detail::heap_delete(p);                                                                                \
    }                                                                                                                        \
    [[gnu::noinline]] void operator delete_(void* p, const std::nothrow_t&) noexcept { ::mpg::debug::detail::heap_delete(p); } \
    [[gnu::noinline]] void operator delete_(void* p, std::align_val_t, const std::nothrow_t&) noexcept {                     \
        ::mpg::debug::detail::heap_delete(p);                                                                                \
    }
