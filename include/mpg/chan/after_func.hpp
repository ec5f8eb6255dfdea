// after_func: a call, later, in a task of its own.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/timer.hpp>

#include <cstdint>
#include <functional>
#include <mutex>
#include <type_traits>
#include <utility>

namespace mpg {

namespace channels {

/// A function and the timer that starts it. References: the handles, the armed timer, the tasks that run it.
class delayed_call {
  public:
    delayed_call(const delayed_call&) = delete;
    delayed_call& operator=(const delayed_call&) = delete;

    void share() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
    void drop() noexcept {
        if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    bool stop() noexcept {
        std::lock_guard control(control_);
        return halt();
    }
    bool reset(std::chrono::nanoseconds d) {
        std::lock_guard control(control_);
        bool pending = halt();
        start(d);
        return pending;
    }
    /// Throws std::logic_error when no runtime is alive; then nothing is pending.
    void start(std::chrono::nanoseconds d) {
        base::nanos deadline = base::deadline_after(d);
        if (deadline == base::never) {
            never_ = true;
            return;
        }
        share();
        try {
            sched::arm(alarm_, deadline);
        } catch (...) {
            refs_.fetch_sub(1, std::memory_order_relaxed); // the caller has one
            throw;
        }
    }

  protected:
    delayed_call() noexcept {
        alarm_.owner = this;
        alarm_.fire = [](sched::timer_node& node) noexcept {
            static_cast<alarm&>(node).owner->run_in_task();
        };
        alarm_.dropped = [](sched::timer_node& node) noexcept { static_cast<alarm&>(node).owner->drop(); };
    }
    virtual ~delayed_call() = default;

  private:
    struct alarm : sched::timer_node {
        delayed_call* owner = nullptr;
    };
    /// A reference that a task carries.
    struct carried {
        delayed_call* call;
        explicit carried(delayed_call* c) noexcept
            : call(c) {}
        carried(carried&& o) noexcept
            : call(std::exchange(o.call, nullptr)) {}
        ~carried() {
            if (call) call->drop();
        }
    };

    virtual void call() = 0;

    bool halt() noexcept {
        bool was_never = std::exchange(never_, false);
        if (!sched::disarm(alarm_)) return was_never;
        refs_.fetch_sub(1, std::memory_order_relaxed); // the timer's; the caller has one
        return true;
    }
    // The timer's reference becomes the task's.
    void run_in_task() noexcept {
        mpg::go([self = carried(this)] { self.call->call(); });
    }

    alarm alarm_;
    base::atomic<std::uint32_t> refs_{1};
    base::spinlock control_; // serialises stop and reset; held while a running callback ends
    bool never_ = false;     // pending for ever; guarded by control_
};

template <class F> class delayed_call_of final : public delayed_call {
  public:
    template <class G>
    explicit delayed_call_of(G&& f)
        : f_(std::forward<G>(f)) {}

  private:
    void call() override { std::invoke(f_); }
    F f_;
};

} // namespace channels

/// The handle of an after_func. Copies are the same; dropping them does not stop it.
class delayed_func {
  public:
    explicit delayed_func(channels::delayed_call* taken) noexcept
        : call_(taken) {}
    delayed_func(const delayed_func& o) noexcept
        : call_(o.call_) {
        if (call_) call_->share();
    }
    delayed_func(delayed_func&& o) noexcept
        : call_(std::exchange(o.call_, nullptr)) {}
    delayed_func& operator=(delayed_func o) noexcept {
        std::swap(call_, o.call_);
        return *this;
    }
    ~delayed_func() {
        if (call_) call_->drop();
    }

    /// True: f will not start any more. False: it has started, or was stopped before. Does not wait for f.
    bool stop() const noexcept { return call_->stop(); }
    /// f starts (again) d from now on. The result is stop's. A run of f may then overlap with an earlier one.
    bool reset(base::any_duration d) const { return call_->reset(d); }

  private:
    channels::delayed_call* call_;
};

/// Runs f in a task of its own once d has passed; an exception that leaves f ends the process, as with go.
/// Does not suspend. On a plain thread the current or default runtime serves it; with none alive:
/// std::logic_error. After Go's time.AfterFunc.
template <class F>
requires std::is_invocable_v < std::decay_t<F>
& > delayed_func after_func(base::any_duration d, F&& f) {
    auto* call = new channels::delayed_call_of<std::decay_t<F>>(std::forward<F>(f));
    delayed_func handle(call);
    call->start(d);
    return handle;
}

} // namespace mpg
