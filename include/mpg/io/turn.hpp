// One operation of one strand on a descriptor, from the queue for its turn to the result.
#pragma once

#include <mpg/io/descriptor.hpp>
#include <mpg/io/driver.hpp>
#include <mpg/io/liburing.hpp>
#include <mpg/io/thread_waiter.hpp>
#include <mpg/sched/task.hpp>
#include <mpg/sched/yield.hpp>

namespace mpg::io {

/// Lives in the frame of the call. begin() takes the turn, which keeps the descriptor open; wait() may be
/// called any number of times; the destructor hands the turn on. About 15 ns for both ends.
class turn {
  public:
    /// why: for dumps. cancel: the source of the caller's context, or null.
    turn(descriptor& d, direction way, sched::wait_reason why, sched::cancel_source* cancel) noexcept
        : d_(d)
        , cancel_(cancel)
        , why_(why) {
        op_.way = way;
        op_.target = &d;
    }
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() {
        if (began_) end();
        thread_waiter::release(op_);
    }

    /// Waits for the turn. 0, or why not: closed, deadline passed (also when there would be no need to wait),
    /// context done. May suspend.
    outcome begin();
    /// The same without a turn: any number at once, as for what has a position of its own.
    outcome begin_shared();
    /// The number; valid from begin() on.
    int fd() const noexcept { return op_.fd; }
    /// Waits until a driver has done `code`, or until it is worth trying again (try_again). Else an error.
    /// Suspends. A driver of readiness, and a plain thread, always end with try_again or an error.
    outcome wait(op_code code, void* address = nullptr, std::size_t length = 0, unsigned flags = 0,
                 std::uint64_t offset = 0);

    /// Is a try worth its system call before a wait? Remembers what was known before it, for used_up.
    bool worth_a_try() noexcept {
        slot_ = d_.slot();
        if (!slot_) return !completes();
        seen_ = slot_->word.load(std::memory_order_acquire); // pairs with: epoll_slot::report
        return epoll_slot::says_go(seen_, op_.way);
    }
    /// Is waiting cheaper than a try, though the try would succeed? See driver::batching.
    bool joins_batch() const noexcept {
        if (readiness_only_ || on_thread()) return false;
        const driver* d = current_driver();
        return d && d->batching();
    }
    /// After a try: it was empty (EAGAIN), or gave less than was asked for.
    void used_up(bool empty) noexcept {
        if (slot_) slot_->use_up(seen_, op_.way, empty);
    }
    /// The completion told that the socket holds more.
    bool more() const noexcept { return op_.more & IORING_CQE_F_SOCK_NONEMPTY; }
    descriptor& target() const noexcept { return d_; }
    /// Why not to go on: closed, deadline passed, context done. 0: no reason. For those who wait by themselves.
    outcome reason() noexcept;
    /// Whether waiting here does the work as well.
    static bool completes() noexcept {
        if (on_thread()) return false;
        const driver* d = current_driver();
        return d && d->kind() == netpoll::io_uring;
    }

  private:
    /// A strand that blocks its thread when it waits: a plain thread, or a task in blocking().
    static bool on_thread() noexcept {
        const sched::task* t = sched::current();
        return t->is_thread() || t->blocking != 0;
    }
    template <sched::wait_reason Why> static const sched::park_ops& ops() noexcept {
        static constexpr sched::park_ops it{
            Why,
            [](void* p) noexcept {
                auto* op = static_cast<operation*>(p);
                driver* by = op->by; // the operation may be over when start returns
                by->start(*op);
                sched::attend(by);
            },
            [](void* p) noexcept {
                static_cast<operation*>(p)->kick(); // it ends when the driver has let go of the buffer
                return false;
            }};
        return it;
    }
    const sched::park_ops& ops() const noexcept {
        switch (why_) {
        case sched::wait_reason::io_read:
            return ops<sched::wait_reason::io_read>();
        case sched::wait_reason::io_write:
            return ops<sched::wait_reason::io_write>();
        case sched::wait_reason::io_accept:
            return ops<sched::wait_reason::io_accept>();
        case sched::wait_reason::io_connect:
            return ops<sched::wait_reason::io_connect>();
        default:
            return ops<sched::wait_reason::io_file>();
        }
    }

    /// An operation that need not wait does not suspend, and a task may go on with such ones for ever. So
    /// that others get their turn, and the poller is looked at, the 16th operation in a row of a processor
    /// none of which has waited yields first. (Those that wait now and then must not yield as well: each time
    /// a request would wait for all others once more.)
    static void pace() {
        if (on_thread()) return;
        driver* d = current_driver();
        if (d && d->sixteen_in_a_row()) yield();
    }
    outcome queue(descriptor::side& s);
    outcome wait_in_thread() noexcept;
    outcome wait_in_driver();
    void end() noexcept;

    descriptor& d_;
    sched::cancel_source* const cancel_;
    const sched::wait_reason why_;
    bool began_ = false;
    bool shared_ = false;                // without a turn
    bool readiness_only_ = false;        // the descriptor is non-blocking: completions fail with EAGAIN
    base::nanos deadline_ = base::never; // as it was when reason() or begin() looked
    epoll_slot* slot_ = nullptr;         // of the last try
    std::uint32_t seen_ = 0;             // its word before that
    operation op_;
};

inline outcome turn::begin() {
    pace();
    if (cancel_ && cancel_->is_done()) return outcome_of(cancel_->err());
    descriptor::side& s = d_.of(op_.way);
    d_.lock_.lock();
    if (d_.closed_) return d_.lock_.unlock(), outcome_of(errc::closed);
    deadline_ = s.deadline;
    ++d_.users_;
    op_.fd = d_.fd_;
    const bool mine = s.active == nullptr;
    if (mine) s.active = &op_;
    began_ = mine;
    d_.lock_.unlock();
    if (!mine) [[unlikely]] {
        if (const outcome e = queue(s); e < 0) return e;
    }
    return deadline_ != base::never && deadline_ <= base::now() ? outcome_of(errc::deadline_exceeded) : 0;
}

inline outcome turn::begin_shared() {
    pace();
    if (cancel_ && cancel_->is_done()) return outcome_of(cancel_->err());
    d_.lock_.lock();
    if (d_.closed_) return d_.lock_.unlock(), outcome_of(errc::closed);
    deadline_ = d_.of(op_.way).deadline;
    ++d_.users_;
    op_.fd = d_.fd_;
    d_.shared_.push_back(op_);
    began_ = shared_ = true;
    d_.lock_.unlock();
    return deadline_ != base::never && deadline_ <= base::now() ? outcome_of(errc::deadline_exceeded) : 0;
}

/// The descriptor counts this strand as a user already; it still does when this succeeds.
inline outcome turn::queue(descriptor::side& s) {
    struct place : descriptor::queued {
        struct hook_type : sched::cancel_hook {
            place* of = nullptr;
        };
        descriptor& d;
        bool cancelled = false; // guarded by the descriptor's lock
        hook_type hook;

        explicit place(descriptor& in) noexcept
            : d(in) {
            hook.of = this;
        }
        /// Withdraws it. True: it was in the queue, and nobody else will ready the strand.
        bool cancel() noexcept {
            d.lock_.lock();
            const bool in = linked();
            if (in) base::intrusive_list<descriptor::queued>::erase(*this);
            cancelled = true;
            d.lock_.unlock();
            return in;
        }
    };
    struct leaver {
        descriptor* d;
        ~leaver() {
            if (d) d->leave();
        }
    };
    constexpr auto commit = [](void* p) noexcept { static_cast<place*>(p)->d.lock_.unlock(); };
    constexpr auto abort = [](void* p) noexcept { return static_cast<place*>(p)->cancel(); };
    static constexpr sched::park_ops reads{sched::wait_reason::io_read, commit, abort};
    static constexpr sched::park_ops writes{sched::wait_reason::io_write, commit, abort};

    leaver on_failure{&d_};
    sched::suspension_point();
    place me(d_);
    me.who = sched::current();
    me.op = &op_;
    me.hook.fire = [](sched::cancel_hook& h) noexcept {
        place* p = static_cast<place::hook_type&>(h).of;
        sched::task* who = p->who;
        if (p->cancel()) sched::ready_later(who);
    };
    // The source's lock comes before the descriptor's: subscribe first.
    if (cancel_ && !cancel_->subscribe(me.hook)) return outcome_of(cancel_->err());
    d_.lock_.lock();
    if (d_.closed_ || me.cancelled) {
        d_.lock_.unlock();
    } else if (!s.active) {
        s.active = &op_;
        me.granted = true;
        d_.lock_.unlock();
    } else {
        s.queue.push_back(me);
        sched::park(op_.way == direction::read ? reads : writes, &me);
    }
    if (cancel_) cancel_->unsubscribe(me.hook);
    if (me.granted) {
        began_ = true;
        on_failure.d = nullptr;
    }
    sched::suspension_point();
    const outcome e = reason();
    return me.granted || e < 0 ? e : outcome_of(errc::cancelled);
}

inline outcome turn::wait(op_code code, void* address, std::size_t length, unsigned flags,
                          std::uint64_t offset) {
    op_.address = address;
    op_.length = static_cast<std::uint32_t>(clamp(length));
    op_.flags = flags;
    op_.offset = offset;
    for (;;) {
        sched::suspension_point();
        if (op_.rearm()) [[unlikely]] {
            if (const outcome e = reason(); e < 0) return e;
        }
        op_.code = readiness_only_ ? op_code::ready : code;
        const outcome r = on_thread() ? wait_in_thread() : wait_in_driver();
        // Kicked; or dropped by the kernel, since the thread that had submitted it is gone: see whether to go
        // on.
        if (r == -ECANCELED || r == -EINTR) continue;
        if (r == try_again && op_.code != op_code::ready) readiness_only_ = true;
        return op_.code == op_code::ready && r >= 0 ? try_again : r;
    }
}

inline outcome turn::wait_in_thread() noexcept {
    if (cancel_ && !cancel_->subscribe(op_.hook)) return outcome_of(cancel_->err());
    const outcome r = thread_waiter::instance().wait(op_, deadline_);
    if (cancel_) cancel_->unsubscribe(op_.hook);
    return r;
}

inline outcome turn::wait_in_driver() {
    driver& by = *current_driver();
    if (const outcome e = by.prepare(d_); e < 0) return e;
    if (cancel_ && !cancel_->subscribe(op_.hook)) return outcome_of(cancel_->err());
    const bool timed = deadline_ != base::never;
    if (timed) sched::arm(op_.timer, deadline_);
    op_.who = sched::current();
    op_.by = &by;
    by.waits();
    sched::park(ops(), &op_);
    if (timed) sched::disarm(op_.timer);
    if (cancel_) cancel_->unsubscribe(op_.hook);
    return op_.result;
}

/// Why the strand was kicked. 0: no reason, or none any more.
inline outcome turn::reason() noexcept {
    d_.lock_.lock();
    const bool closed = d_.closed_;
    deadline_ = d_.of(op_.way).deadline;
    d_.lock_.unlock();
    if (closed) return outcome_of(errc::closed);
    if (cancel_ && cancel_->is_done()) return outcome_of(cancel_->err());
    if (deadline_ != base::never && deadline_ <= base::now()) return outcome_of(errc::deadline_exceeded);
    return 0;
}

inline void turn::end() noexcept {
    descriptor::side& s = d_.of(op_.way);
    d_.lock_.lock();
    if (shared_) {
        base::intrusive_list<operation>::erase(op_);
        return d_.leave_locked();
    }
    descriptor::queued* next = s.queue.pop_front();
    s.active = next ? next->op : nullptr;
    if (next) next->granted = true;
    sched::task* who = next ? next->who : nullptr;
    d_.leave_locked();
    if (who) sched::ready(who);
}

} // namespace mpg::io
