// spawn and task<R>: start a task, and get its result.
//
// The closure's place in the record holds the frame: what f needs, later what it gave, and who waits for it. It belongs
// to the run and to the handle; who lets go last destroys it. lock_ guards done_ and the waiters; done_ is set once, by
// the run, which then unlinks the waiters one by one. The result is written before done_ and read after it.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/sched/go.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>

namespace mpg::cancel {

/// The part of a frame that does not depend on types.
class join_state {
  public:
    join_state() = default;
    join_state(const join_state&) = delete;
    join_state& operator=(const join_state&) = delete;

    bool done() noexcept {
        lock_.lock();
        bool d = done_;
        lock_.unlock();
        return d;
    }

    /// Waits until the run has ended.
    void wait() {
        sched::suspension_point();
        single s{{}, this};
        s.who = sched::current();
        lock_.lock();
        if (done_) {
            lock_.unlock();
            return;
        }
        waiters_.push_back(s);
        static constexpr sched::park_ops ops{
            sched::wait_reason::join,
            [](void* arg) noexcept { static_cast<single*>(arg)->of->lock_.unlock(); },
            [](void* arg) noexcept {
                auto* w = static_cast<single*>(arg);
                join_state* of = w->of;
                of->lock_.lock();
                bool linked = w->linked();
                if (linked) base::intrusive_list<sched::waiter>::erase(*w);
                of->lock_.unlock();
                return linked;
            }};
        sched::park(ops, &s);
        sched::suspension_point();
    }

    /// Waits until the run has ended or the source is done: then false.
    bool wait(sched::cancel_source& source) {
        sched::suspension_point();
        if (done()) return true;
        sched::multi_wait multi;
        sched::waiter w;
        w.multi = &multi;
        struct hook_of : sched::cancel_hook {
            sched::multi_wait* multi;
        } hook;
        hook.multi = &multi;
        hook.fire = [](sched::cancel_hook& h) noexcept {
            auto* m = static_cast<hook_of&>(h).multi;
            if (auto won = m->claim(1); won != sched::multi_wait::claim_result::lost) m->wake(won);
        };
        if (!source.subscribe(hook)) return done();
        lock_.lock();
        if (done_) {
            lock_.unlock();
            source.unsubscribe(hook);
            return true;
        }
        waiters_.push_back(w);
        lock_.unlock();
        static constexpr sched::park_ops ops{
            sched::wait_reason::join, [](void* arg) noexcept { static_cast<sched::multi_wait*>(arg)->commit(); },
            [](void* arg) noexcept {
                return static_cast<sched::multi_wait*>(arg)->claim(2) != sched::multi_wait::claim_result::lost;
            }};
        sched::park(ops, &multi);
        source.unsubscribe(hook);
        lock_.lock();
        if (w.linked()) base::intrusive_list<sched::waiter>::erase(w);
        bool ended = done_;
        lock_.unlock();
        sched::suspension_point();
        return ended;
    }

    /// A channel that is closed when the run has ended.
    recv_chan<void> done_channel() {
        auto fresh = std::make_unique<chan<void>>();
        lock_.lock();
        if (!done_channel_) done_channel_ = std::move(fresh);
        chan<void> c = *done_channel_;
        bool d = done_ && !std::exchange(channel_closed_, true);
        lock_.unlock();
        if (d) c.close();
        return c;
    }

    /// By the run, at its end.
    void finish() noexcept {
        lock_.lock();
        done_ = true;
        while (sched::waiter* w = waiters_.pop_front()) {
            if (sched::multi_wait* m = w->multi) {
                auto won = m->claim(0);
                lock_.unlock();
                if (won != sched::multi_wait::claim_result::lost) m->wake(won);
            } else {
                sched::task* t = w->who;
                lock_.unlock();
                sched::ready(t);
            }
            lock_.lock();
        }
        bool close = done_channel_ && !std::exchange(channel_closed_, true);
        lock_.unlock();
        if (close) done_channel_->close();
    }

    std::exception_ptr error; // written before finish
    bool unwound = false;     // it was unwound, or never started
    base::atomic<std::uint32_t> owners{2};

  private:
    struct single : sched::waiter {
        join_state* of;
    };

    base::spinlock lock_;
    bool done_ = false;
    bool channel_closed_ = false;
    base::intrusive_list<sched::waiter> waiters_;
    std::unique_ptr<chan<void>> done_channel_;
};

/// A frame that gives an R.
template <class R> struct result_state : join_state {
    using stored = std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>;
    std::optional<stored> value;

    template <class F> void run(F& f) {
        if constexpr (std::is_reference_v<R>)
            value.emplace(std::addressof(f()));
        else
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

template <class R, class C> void let_go(sched::task& t, frame<R, C>* f) noexcept {
    // acq_rel: what the other owner did happens before the destruction.
    if (f->owners.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (f->error) t.rt->dropped_exceptions.fetch_add(1, std::memory_order_relaxed);
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
    f->finish();
    let_go(self, f);
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
        state_->wait();
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
    sched::task* t = sched::new_task(rt, created_at);
    t->refs.store(2, std::memory_order_relaxed);
    task<R> handle;
    try {
        handle.state_ = &sched::emplace_closure<frame>(*t, &cancel::spawn_body<R, call>, std::forward<F>(f),
                                                       std::forward<A>(args)...);
    } catch (...) {
        sched::cancel_record(t);
        throw;
    }
    handle.record_ = t;
    handle.release_ = [](sched::task* record, cancel::result_state<R>* state) noexcept {
        cancel::let_go(*record, static_cast<frame*>(state));
        sched::drop_record(record);
    };
    if (rt.stopping.load(std::memory_order_relaxed)) [[unlikely]] { // as a task that never started
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
        sched::runtime_for_new_work(), sched::caller(), std::forward<F>(f), std::forward<Args>(args)...);
}

} // namespace mpg
