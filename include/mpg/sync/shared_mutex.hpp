// shared_mutex: many readers or one writer.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sched/biased_lock.hpp>
#include <mpg/sync/mutex_core.hpp>
#include <mpg/sync/reader_slots.hpp>
#include <mpg/sync/waiting.hpp>

#include <chrono>
#include <cstdint>
#include <memory>

namespace mpg {

/// SharedTimedLockable. A writer that waits for readers keeps new readers out, and a writer that unlocks lets
/// all readers in that wait then, before the next writer: so neither starves. A reader must not lock again
/// while it reads: a writer may have come in between. After Go's sync.RWMutex; readers in slots after BRAVO
/// (Dice, Kogan: "Scalable Reader-Writer Locks", USENIX ATC 2019) and Linux's percpu_rw_semaphore.
///
///   state word  readers << 3 | slots_open << 2 | has_waiters << 1 | writer. has_waiters is set while one of
///               the two queues, which a spinlock guards, is not empty; then somebody holds the word.
///   fast path   one compare-exchange: of a reader while nobody writes or waits, of a writer while the word
///               is 0.
///   writers     that find the word held take writer_ first, a mutex. So one of them waits for it at most, and
///               of several writers it is the one that runs who goes on, as with any mutex. To hand the word
///               from writer to writer would make each wait for its turn: ten times as slow when contended.
///   slow path   lock: under the spinlock set has_waiters in the same compare-exchange that finds the word
///               held, link, park. unlock of the last holder: under the spinlock hand the word over, so that
///               nobody barges in.
///   slots       where readers disturb each other, they are counted once a P from then on, until a writer
///               comes. The slots are opened by a reader that holds the word, and closed by a writer, both
///               under writer_; what close() takes is added to the word in the step that clears slots_open,
///               and the word alone counts from then on. Who unlocks does not know where he locked: he leaves
///               by the slot when it is open, else by the word. So while slots_open is set only the sum of
///               both means something, and the word's readers may even be negative; but then nobody asks
///               whether it is free. fast_ is a hint: a slot itself knows whether it is open.
///   the races   unlock / park: unlock's compare-exchange fails when has_waiters is set, and the spinlock
///               makes it wait until the waiter has parked. unlock / destroy: the mutex is given up either by
///               a compare-exchange that is the last touch (so writer_ is given up first), or to waiters who
///               do not run before the last touch. A writer that gives up lets the readers in that only it
///               kept out.
///   at home     as a mutex (mutex_core.hpp): until somebody has had to wait, or has come from elsewhere, the word is changed
///               by plain stores on the P of the task that made it, and neither has_waiters nor slots_open is set.
///   cost        120 bytes; 5 ns each, at home 2. 64 bytes a P more where readers met.
class shared_mutex {
  public:
    shared_mutex() = default;
    shared_mutex(const shared_mutex&) = delete;
    shared_mutex& operator=(const shared_mutex&) = delete;

    /// The forms that wait may suspend, the others do not. try_ forms may fail while others wait, although the
    /// mutex could be shared.
    void lock() { (void)lock_limited({}); }
    bool try_lock() noexcept {
        if (try_acquire<writing>()) return true;
        if (!writer_.try_lock()) return false;
        close_slots();
        if (try_acquire<writing>()) return owns_writer_ = true;
        writer_.unlock();
        return false;
    }
    template <class Rep, class Period> bool try_lock_for(std::chrono::duration<Rep, Period> d) {
        return try_lock() || lock_limited({.deadline = sync::deadline_in(d)});
    }
    template <class Clock, class Duration> bool try_lock_until(std::chrono::time_point<Clock, Duration> t) {
        return try_lock() || lock_limited({.deadline = sync::deadline_at(t)});
    }
    void unlock() noexcept {
        if (owns_writer_) [[unlikely]] {
            owns_writer_ = false;
            writer_.unlock();
        }
        release<writing>();
    }

    void lock_shared() {
        if (!enter_slot()) (void)acquire<reading>({});
    }
    bool try_lock_shared() noexcept { return enter_slot() || try_acquire<reading>(); }
    template <class Rep, class Period> bool try_lock_shared_for(std::chrono::duration<Rep, Period> d) {
        return try_lock_shared() || acquire<reading>({.deadline = sync::deadline_in(d)});
    }
    template <class Clock, class Duration>
    bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> t) {
        return try_lock_shared() || acquire<reading>({.deadline = sync::deadline_at(t)});
    }
    void unlock_shared() noexcept {
        sync::reader_slots* s = fast_.load(std::memory_order_acquire); // pairs with: open_slots
        if (!s || !s->leave()) release<reading>();
    }

  private:
    using word = std::uint64_t;
    static constexpr word writer = 1, has_waiters = 2, slots_open = 4, reader = 8;
#if defined(MPG_MODEL_ATOMICS)
    static constexpr std::uint32_t patience = 1;
#else
    static constexpr std::uint32_t patience = 32;
#endif

    struct reading {
        static constexpr auto reason = sched::wait_reason::shared_mutex_read;
        static constexpr word hold = reader, excluded_by = writer | has_waiters;
    };
    struct writing {
        static constexpr auto reason = sched::wait_reason::shared_mutex_write;
        static constexpr word hold = writer, excluded_by = ~word{0};
    };
    template <class Mode> sync::wait_queue& queue() noexcept {
        return std::is_same_v<Mode, reading> ? readers_ : writers_;
    }

    bool lock_limited(const sync::limit& l) {
        word free = 0;
        if (bias_.is_nobodys()) {
            if (word_.compare_exchange_strong(free, writer, std::memory_order_acquire)) [[likely]] return true; // pairs with: release
        } else if (hold_at_home<writing>() == at_home::done) {
            return true;
        }
        return lock_slow(l);
    }
    MPG_NOINLINE bool lock_slow(const sync::limit& l) {
        if (!writer_.lock<writing::reason>(l)) return false;
        close_slots();
        bool got = false;
        try {
            got = acquire<writing>(l);
        } catch (...) {
            writer_.unlock();
            throw;
        }
        if (got)
            owns_writer_ = true;
        else
            writer_.unlock();
        return got;
    }

    bool enter_slot() noexcept {
        sync::reader_slots* s = fast_.load(std::memory_order_acquire); // pairs with: open_slots
        return s && s->enter();
    }
    // By a reader that holds the word and was disturbed by others.
    MPG_NOINLINE void disturbed() noexcept {
        const std::uint32_t times = disturbed_.load(std::memory_order_relaxed) + 1;
        disturbed_.store(times, std::memory_order_relaxed); // some are lost; it does not matter
        if (times >= patience && sched::places() > 1) open_slots();
    }
    void open_slots() noexcept {
        if (!writer_.try_lock()) return; // a writer is about to close them
        if (!slots_) slots_ = sync::reader_slots::make();
        if (slots_ && !fast_.load(std::memory_order_relaxed)) {
            // Before anybody can be in a slot; we hold the word.
            word_.fetch_or(slots_open, std::memory_order_relaxed);
            slots_->open();
            fast_.store(slots_.get(), std::memory_order_release); // pairs with: enter_slot, unlock_shared
        }
        writer_.unlock();
    }
    // Under writer_.
    void close_slots() noexcept {
        if (disturbed_.load(std::memory_order_relaxed) != 0) disturbed_.store(0, std::memory_order_relaxed);
        if (!fast_.load(std::memory_order_relaxed)) [[likely]]
            return;
        fast_.store(nullptr, std::memory_order_relaxed);
        // release: who left by a slot before is seen by whoever gets the word next, and that may be another. Pairs
        // with: acquire.
        word_.fetch_add(static_cast<word>(slots_->close()) * reader - slots_open, std::memory_order_release);
    }

    enum class at_home : std::uint8_t { done, excluded, elsewhere };
    template <class Mode> MPG_ALWAYS_INLINE at_home hold_at_home() noexcept {
        if (!bias_.enter()) return at_home::elsewhere;
        const word s = word_.load(std::memory_order_relaxed);
        const bool free = !(s & Mode::excluded_by);
        if (free) word_.store(s + Mode::hold, std::memory_order_relaxed);
        bias_.leave();
        return free ? at_home::done : at_home::excluded;
    }
    template <class Mode> MPG_ALWAYS_INLINE bool release_at_home() noexcept {
        if (!bias_.enter()) return false;
        word_.store(word_.load(std::memory_order_relaxed) - Mode::hold, std::memory_order_relaxed);
        bias_.leave();
        return true;
    }
    MPG_NOINLINE void make_common() noexcept {
        lock_.lock();
        bias_.make_common();
        lock_.unlock();
    }

    template <class Mode> bool try_acquire() noexcept {
        if (!bias_.is_nobodys()) {
            if (const at_home how = hold_at_home<Mode>(); how != at_home::elsewhere) return how == at_home::done;
            make_common();
        }
        word s = word_.load(std::memory_order_relaxed);
        while (!(s & Mode::excluded_by))
            if (word_.compare_exchange_weak(s, s + Mode::hold, std::memory_order_acquire))
                return true; // pairs with: release
        return false;
    }
    // The guess comes before the look: a look at a word that somebody has just changed costs as much as the
    // exchange.
    template <class Mode> bool acquire(const sync::limit& l) {
        if (!bias_.is_nobodys()) {
            if (hold_at_home<Mode>() == at_home::done) [[likely]] return true;
            make_common();
        }
        word s = 0;
        for (unsigned tries = 0;; ++tries) {
            // pairs with: release
            if (word_.compare_exchange_weak(s, s + Mode::hold, std::memory_order_acquire)) [[likely]] {
                if (std::is_same_v<Mode, reading> && tries > 1) [[unlikely]]
                    disturbed();
                return true;
            }
            if (s & Mode::excluded_by) return acquire_slow<Mode>(l);
        }
    }
    // True: got it. False: held, and the last holder will see has_waiters. Under lock_.
    template <class Mode> bool try_acquire_or_announce() noexcept {
        word s = word_.load(std::memory_order_relaxed);
        for (;;) {
            bool get = !(s & Mode::excluded_by);
            word next = get ? s + Mode::hold : s | has_waiters;
            if (word_.compare_exchange_weak(s, next, std::memory_order_acquire))
                return get; // pairs with: release
        }
    }
    template <class Mode> MPG_NOINLINE bool acquire_slow(const sync::limit& l) {
        using sync::ended;
        if (l.expired()) return false;
        for (;;) {
            sched::suspension_point();
            sync::strand self;
            lock_.lock();
            if (try_acquire_or_announce<Mode>()) {
                lock_.unlock();
                return true;
            }
            if (sched::contention_watched()) [[unlikely]]
                self.since = base::now();
            queue<Mode>().push_back(self);
            ended how = sync::wait<Mode::reason>(lock_, queue<Mode>(), self, l);
            if (how != ended::granted) gave_up();
            try {
                sched::suspension_point();
            } catch (...) {
                if (how == ended::granted) release<Mode>();
                throw;
            }
            if (how != ended::withdrawn) return how == ended::granted;
        }
    }
    // If no writer waits any more, nothing keeps the waiting readers from those who read.
    void gave_up() noexcept {
        sync::strand_list woken;
        lock_.lock();
        word s = word_.load(std::memory_order_relaxed);
        if ((s & has_waiters) && !(s & writer) && writers_.empty())
            // acquire: pairs with release.
            word_.fetch_add(readers_.take_all(woken) * reader, std::memory_order_acquire);
        clear_if_empty();
        lock_.unlock();
        sync::wake_all(woken);
    }
    void clear_if_empty() noexcept {
        if (readers_.empty() && writers_.empty()) word_.fetch_and(~has_waiters, std::memory_order_relaxed);
    }

    // acquire, where the exchange fails: who hands over does so for the readers who left before: pairs with
    // the release of each of them. The first exchange guesses, as that of acquire.
    template <class Mode> void release() noexcept {
        if (!bias_.is_nobodys()) {
            if (release_at_home<Mode>()) [[likely]] return;
            make_common();
        }
        word s = Mode::hold;
        for (;;) {
            if (s == (Mode::hold | has_waiters)) [[unlikely]] {
                if (hand_over<Mode>()) return;
                s = word_.load(std::memory_order_acquire);
            } else if (word_.compare_exchange_weak(s, s - Mode::hold, std::memory_order_acq_rel)) [[likely]] {
                return; // release pairs with: acquire, try_acquire, release
            }
        }
    }
    // By one who found himself the only holder, with has_waiters set. False: look again. A writer that gave
    // up may have let readers in since, or those who were queued have all given up. While it is so under
    // lock_, nobody else changes the word: the fast paths are closed.
    template <class Mode> MPG_NOINLINE bool hand_over() noexcept {
        sync::strand_list woken;
        word next = 0;
        lock_.lock();
        if (word_.load(std::memory_order_acquire) != (Mode::hold | has_waiters)) { // pairs with: release
            lock_.unlock();
            return false;
        }
        sync::strand* w = std::is_same_v<Mode, reading> ? writers_.take() : nullptr;
        if (!w) {
            next = readers_.take_all(woken) * reader;
            if (next == 0) w = writers_.take();
        }
        if (w) {
            woken.push_back(*w);
            next = writer;
        }
        bool taken = next != 0;
        if (taken) {
            if (!readers_.empty() || !writers_.empty()) next |= has_waiters;
            word_.store(next, std::memory_order_release); // pairs with: try_acquire
        } else {
            clear_if_empty();
        }
        lock_.unlock();
        base::nanos waited = 0;
        if (sched::contention_watched()) [[unlikely]] {
            const base::nanos now = base::now();
            woken.for_each(
                [&](const sync::strand& s) { waited += s.since ? now - s.since : 0; }); // ours (I2)
        }
        sync::wake_all(woken);
        if (waited > 0) [[unlikely]]
            sched::contention_ended(waited, __builtin_return_address(0));
        return taken;
    }

    sync::mutex_core writer_;
    base::atomic<word> word_{0};
    base::spinlock lock_;
    bool owns_writer_ = false; // guarded by the word: the writer that holds it has writer_, too
    base::atomic<std::uint32_t> disturbed_{0};        // how often readers were, since the last writer
    sync::wait_queue readers_;                        // guarded by lock_
    sync::wait_queue writers_;                        // guarded by lock_; one at most
    base::atomic<sync::reader_slots*> fast_{nullptr}; // slots_ while they are open
    std::unique_ptr<sync::reader_slots> slots_;       // guarded by writer_
    sched::local_bias bias_; // of the word; away from it, since all look here before they change that
};

} // namespace mpg
