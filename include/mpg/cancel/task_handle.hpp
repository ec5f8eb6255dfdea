// spawn and task<R>: start a task, and get its result.
//
// The closure's place in the record holds the frame: what f needs, later what it gave, and who waits for it. The run
// and the handle share it: when the run has ended it belongs to the handle, and to the run when the handle let go
// before.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/run_in_place.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <sched.h>
#include <system_error>
#include <type_traits>

namespace mpg::cancel {

/// The part of a frame that does not depend on types. One strand at a time uses the handle, so one waits at most.
///
///   state word  address of the waiter | dropped | closed | has_channel | done. What f gave is written before done is
///               set, and read after it was seen.
///   fast path   wait: one load that finds done. Else one exchange when the registers are saved, and one of the run
///               at its end: that is the run's last touch of the frame, unless it then has to close the channel
///               (and sets closed), or to destroy the frame (dropped).
///   the races   end / wait: the waiter's exchange fails when done is set, and it goes on. end / withdrawal by a
///               context: the run took the waiter's address, but loses the claim; the waiter stays until the run
///               has said that it lets go of it. end / last handle: dropped and done are set in one word, the second
///               of the two destroys.
///   cost        40 bytes; 10 ns of exchanges for a spawn and its join.
class join_state {
  public:
    join_state() = default;
    join_state(const join_state&) = delete;
    join_state& operator=(const join_state&) = delete;
    ~join_state() { delete channel_.load(std::memory_order_relaxed); }

    bool done() const noexcept {
        return state_.load(std::memory_order_acquire) & is_done; // pairs with: finish
    }

    /// Waits until the run has ended.
    void wait() {
        sched::suspension_point();
        if (done()) return;
        waiter self{this, sched::current()};
        static constexpr sched::park_ops ops{
            sched::wait_reason::join,
            [](void* arg) noexcept {
                auto* w = static_cast<waiter*>(arg);
                sched::task* who = w->who;
                if (!w->of->enter(*w)) sched::ready(who);
            },
            [](void* arg) noexcept {
                auto* w = static_cast<waiter*>(arg);
                return w->of->leave(*w);
            },
            [](void* arg, sched::wait_view& v) noexcept { v.pending = !static_cast<waiter*>(arg)->of->done(); }};
        sched::park(ops, &self);
        sched::suspension_point();
    }
    /// Waits until the run has ended or the source is done: then false.
    MPG_NOINLINE bool wait(sched::cancel_source& source) {
        sched::suspension_point();
        if (done()) return true;
        sched::multi_wait multi;
        waiter self{this, nullptr, &multi};
        struct hook_of : sched::cancel_hook {
            sched::multi_wait* multi;
        } hook;
        hook.multi = &multi;
        hook.fire = [](sched::cancel_hook& h) noexcept {
            auto* m = static_cast<hook_of&>(h).multi;
            if (auto won = m->claim(by_source); won != sched::multi_wait::claim_result::lost) m->wake(won);
        };
        if (!source.subscribe(hook)) return done();
        bool ended = !enter(self);
        if (!ended) {
            static constexpr sched::park_ops ops{
                sched::wait_reason::join, [](void* arg) noexcept { static_cast<sched::multi_wait*>(arg)->commit(); },
                [](void* arg) noexcept {
                    return static_cast<sched::multi_wait*>(arg)->claim(by_stop) !=
                           sched::multi_wait::claim_result::lost;
                }};
            sched::park(ops, &multi);
        }
        source.unsubscribe(hook);
        if (!ended && !leave(self)) {
            ended = true;
            if (multi.winner() != by_end)
                while (!self.let_go.load(std::memory_order_acquire)) ::sched_yield(); // pairs with: finish
        }
        sched::suspension_point();
        return ended;
    }

    /// A channel that is closed when the run has ended. Several strands may ask at once.
    recv_chan<void> done_channel() {
        chan<void>* made = channel_.load(std::memory_order_acquire); // pairs with: the exchange
        if (!made) {
            auto fresh = std::make_unique<chan<void>>();
            if (channel_.compare_exchange_strong(made, fresh.get(), std::memory_order_acq_rel)) {
                made = fresh.release();
                // The run closes it when it finds has_channel set. acq_rel: pairs with: finish.
                if (state_.fetch_add(has_channel, std::memory_order_acq_rel) & is_done) close(*made);
            }
        }
        return *made;
    }

    /// By the run, at its end. True: no handle is left, so the frame is the run's. Else the frame may be gone.
    [[nodiscard]] bool finish() noexcept {
        base::holds_one_more(); // others may spin until closed or let_go is set
        // acq_rel: pairs with done, enter, done_channel, drop. An addition, for each bit is set once.
        std::uintptr_t s = state_.fetch_add(is_done, std::memory_order_acq_rel);
        if (s & has_channel) [[unlikely]] close(*channel_.load(std::memory_order_acquire));
        if (auto* w = reinterpret_cast<waiter*>(s & ~flags)) {
            if (!w->multi) [[likely]] {
                sched::ready(w->who);
            } else if (auto won = w->multi->claim(by_end); won != sched::multi_wait::claim_result::lost) {
                w->multi->wake(won);
            } else {
                w->let_go.store(true, std::memory_order_release); // pairs with: wait
            }
        }
        base::holds_one_less();
        return s & is_dropped;
    }
    /// By the handle, when it lets go. True: the run has ended, so the frame is the handle's.
    [[nodiscard]] bool drop() noexcept {
        // acq_rel: pairs with finish.
        if (!done() && !(state_.fetch_add(is_dropped, std::memory_order_acq_rel) & is_done)) return false;
        while ((state_.load(std::memory_order_acquire) & (has_channel | is_closed)) == has_channel)
            ::sched_yield(); // the run is about to close the channel; pairs with: close
        return true;
    }

    std::exception_ptr error; // written before finish
    bool unwound = false;     // it was unwound, or never started

  private:
    static constexpr std::uintptr_t is_done = 1, has_channel = 2, is_closed = 4, is_dropped = 8, flags = 15;
    static constexpr std::uint32_t by_end = 0, by_source = 1, by_stop = 2;

    struct alignas(16) waiter {
        join_state* of;
        sched::task* who;                  // when multi is null
        sched::multi_wait* multi = nullptr;
        base::atomic<bool> let_go{false};  // by a run that has lost its claim
    };

    // False: the run has ended.
    bool enter(waiter& w) noexcept {
        std::uintptr_t s = state_.load(std::memory_order_acquire); // pairs with: finish
        while (!(s & is_done))
            if (state_.compare_exchange_weak(s, s | reinterpret_cast<std::uintptr_t>(&w), std::memory_order_acq_rel))
                return true; // pairs with: finish
        return false;
    }
    // False: the run has ended, and took the waiter.
    bool leave(waiter& w) noexcept {
        std::uintptr_t s = state_.load(std::memory_order_acquire); // pairs with: finish
        while (!(s & is_done))
            if (state_.compare_exchange_weak(s, s & ~reinterpret_cast<std::uintptr_t>(&w), std::memory_order_acq_rel))
                return true;
        return false;
    }
    void close(chan<void>& c) noexcept {
        c.close();
        state_.fetch_add(is_closed, std::memory_order_release); // pairs with: drop
    }

    base::atomic<std::uintptr_t> state_{0};
    base::atomic<chan<void>*> channel_{nullptr}; // owned; made on first use
};

/// A frame that gives an R.
template <class R> struct result_state : join_state {
    using stored = std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>;
    std::optional<stored> value;

    template <class F> void run(F& f) {
        if constexpr (std::is_reference_v<R>) {
            R r = f();
            value.emplace(std::addressof(r));
        } else
            value.emplace(f());
    }
    R take() {
        if constexpr (std::is_reference_v<R>)
            return static_cast<R>(**value);
        else
            return std::move(*value);
    }
};
template <> struct result_state<void> : join_state {
    template <class F> void run(F& f) { f(); }
    void take() noexcept {}
};

/// The whole closure of a spawned task.
template <class R, class C> struct frame : result_state<R> {
    template <class... A> explicit frame(A&&... args) : call(std::in_place, std::forward<A>(args)...) {}
    std::optional<C> call;
};

/// By the one whom the frame belongs to in the end.
template <class R, class C> void destroy_frame(sched::task& t, frame<R, C>* f) noexcept {
    if (f->error) [[unlikely]] sched::count_dropped_exception(&t);
    sched::destroy_closure<frame<R, C>>(t);
}

template <class R, class C> void spawn_body(sched::task& self, void* closure, sched::closure_op op) {
    auto* f = static_cast<frame<R, C>*>(closure);
    sched::run_guarded(self, [&] {
        if (op == sched::closure_op::run) {
            try {
                f->run(*f->call);
            } catch (const unwound&) {
                self.unwound_done = true;
                f->unwound = true;
            } catch (...) {
                f->error = std::current_exception();
            }
        } else {
            f->unwound = true;
        }
        f->call.reset();
    });
    if (f->finish()) destroy_frame(self, f);
}

} // namespace mpg::cancel

namespace mpg {

/// The handle of a spawned task: move-only; its destructor detaches. One strand at a time may use it.
template <class R> class [[nodiscard]] task {
  public:
    task() noexcept = default;
    task(task&& other) noexcept
        : record_(std::exchange(other.record_, nullptr)), state_(other.state_), release_(other.release_) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            if (record_) drop();
            record_ = std::exchange(other.record_, nullptr);
            state_ = other.state_;
            release_ = other.release_;
        }
        return *this;
    }
    ~task() {
        if (record_) drop();
    }

    /// Waits for the end of the task; returns its value or rethrows its exception; afterwards it is not joinable.
    /// std::system_error(invalid_argument) when it is not joinable. Throws unwound when the task was unwound. Suspends.
    R join() {
        check();
        if (!state_->done() && !sched::run_in_place(record_)) state_->wait();
        return take();
    }
    /// As join; when ctx is done first, throws std::system_error(ctx.err()) and the task stays joinable.
    R join(const context& ctx) {
        check();
        sched::cancel_source* source = sched::source_of(ctx);
        if (!source)
            state_->wait();
        else if (!state_->wait(*source))
            throw std::system_error(source->err());
        return take();
    }
    bool joinable() const noexcept { return record_ != nullptr; }
    /// Lets it run on alone. std::system_error(invalid_argument) when it is not joinable.
    void detach() {
        check();
        drop();
    }
    /// 0 when it is not joinable.
    std::uint64_t id() const noexcept { return record_ ? record_->id : 0; }
    /// Closed when the task has ended: for select. std::system_error(invalid_argument) when it is not joinable.
    recv_chan<void> done() const {
        check();
        return state_->done_channel();
    }

  private:
    template <class T, class F, class... A>
    friend task<T> cancel_spawn_on(sched::runtime_state&, const void*, F&&, A&&...);

    void check() const {
        if (!record_) throw std::system_error(std::make_error_code(std::errc::invalid_argument), "mpg::task");
    }
    void drop() noexcept { release_(std::exchange(record_, nullptr), state_); }
    R take() {
        struct guard {
            task* self;
            ~guard() { self->drop(); }
        } g{this};
        if (state_->unwound) throw unwound();
        if (state_->error) std::rethrow_exception(std::exchange(state_->error, nullptr));
        return state_->take();
    }

    sched::task* record_ = nullptr;
    cancel::result_state<R>* state_ = nullptr;
    void (*release_)(sched::task*, cancel::result_state<R>*) noexcept = nullptr;
};

/// spawn on a given runtime; for spawn and runtime::spawn.
template <class R, class F, class... A>
task<R> cancel_spawn_on(sched::runtime_state& rt, const void* created_at, F&& f, A&&... args) {
    using call = sched::bound_call_for<F, A...>;
    using frame = cancel::frame<R, call>;
    task<R> handle;
    handle.release_ = [](sched::task* record, cancel::result_state<R>* state) noexcept {
        if (state->drop()) cancel::destroy_frame(*record, static_cast<frame*>(state));
        sched::drop_record(record);
    };
    if constexpr (sched::task::fits<frame> && sched::made_by_copying<std::decay_t<F>, F> &&
                  (sched::made_by_copying<std::decay_t<A>, A> && ...)) {
        if (!rt.stopping.load(std::memory_order_relaxed)) [[likely]] {
            sched::runtime_section here;
            sched::task* t = sched::new_task(here, rt, created_at);
            t->refs.store(2, std::memory_order_relaxed);
            handle.state_ = &sched::emplace_closure<frame>(*t, &cancel::spawn_body<R, call>, std::forward<F>(f),
                                                           std::forward<A>(args)...);
            handle.record_ = t;
            sched::submit(here, rt, t);
            return handle;
        }
    }
    sched::task* t = sched::new_task(rt, created_at);
    t->refs.store(2, std::memory_order_relaxed);
    try {
        handle.state_ = &sched::emplace_closure<frame>(*t, &cancel::spawn_body<R, call>, std::forward<F>(f),
                                                       std::forward<A>(args)...);
    } catch (...) {
        sched::cancel_record(t);
        throw;
    }
    handle.record_ = t;
    if (rt.stopping.load(std::memory_order_relaxed)) [[unlikely]] { // as a task that never started
        if (rt.forked.load(std::memory_order_relaxed)) sched::used_after_fork();
        t->body(*t, t->closure(), sched::closure_op::destroy);
        t->set_state(sched::task_state::ended);
        sched::drop_record(t);
        rt.foreign_ended.fetch_add(1, std::memory_order_release);
    } else {
        sched::submit(t);
    }
    return handle;
}

/// Starts a task that runs f(args...), decay-copied as by std::thread; the handle joins it. Its exception goes to the
/// one who joins; without one it is dropped, and counted in runtime_stats. Does not suspend.
template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
MPG_ALWAYS_INLINE task<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> spawn(F&& f, Args&&... args) {
    return cancel_spawn_on<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>>(
        sched::runtime_for_new_work(), sched::here(), std::forward<F>(f), std::forward<Args>(args)...);
}

} // namespace mpg
