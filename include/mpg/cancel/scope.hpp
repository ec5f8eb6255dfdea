// scope: a group of tasks that ends together.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/unwound.hpp>
#include <mpg/sync/gate.hpp>
#include <mpg/sync/semaphore.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace mpg {

/// A group of tasks that does not outlive its scope. The first exception of a task cancels the scope's
/// context, with that exception as the cause, and is what wait() throws. Its tasks may call go(), cancel()
/// and ctx(); wait() and the destructor belong to the owner. After golang.org/x/sync/errgroup, and Python's
/// and Kotlin's task groups.
///
/// A task counts until its closure is destroyed, whether it ran, was unwound, or never started. That count's
/// last change is the last touch of the scope (sync::gate), which may be destroyed then.
/// Cost: a context for the scope; for each task what go() costs and 10 ns.
class scope {
  public:
    /// Done when the parent is; throws std::bad_alloc.
    explicit scope(const context& parent = context::background()) : ctx_(with_cancel(parent)) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    /// Cancels, then waits for all, also while the runtime stops. An exception that nobody waited for is
    /// dropped.
    ~scope() {
        cancel();
        sched::no_unwind works_normally;
        running_.wait<reason>();
    }

    /// Starts f() or f(const context&) in a task of the group; f is decay-copied. Waits for a place first
    /// when there is a limit; only then it may suspend. After a cancel tasks start as ever, with a context
    /// that is done.
    template <class F> MPG_ALWAYS_INLINE void go(F&& f) {
        if (places_) places_->acquire();
        // From here on the member gives the place back, whatever throws.
        mpg::go(member<std::decay_t<F>>(*this, std::forward<F>(f)));
    }
    /// At most n > 0 of its tasks at once, counted from their go(). Throws std::invalid_argument for 0,
    /// std::logic_error while a task counts. Owner only.
    void limit(std::size_t n) {
        if (n == 0) throw std::invalid_argument("mpg: limit of scope is zero");
        if (running_.count() != 0) throw std::logic_error("mpg: limit of scope changed while its tasks run");
        places_.emplace(n);
    }
    /// Waits until no task counts, then rethrows the first exception, if there was one. May suspend.
    void wait() {
        running_.wait<reason>();
        std::exception_ptr first;
        {
            std::lock_guard guard(lock_);
            first = first_;
        }
        if (first) std::rethrow_exception(first);
    }
    /// What its tasks get.
    const context& ctx() const noexcept { return ctx_; }
    /// Asks the tasks to end. Does not suspend.
    void cancel() noexcept { ctx_.cancel(); }

  private:
    static constexpr auto reason = sched::wait_reason::wait_group;

    /// Counts while it lives.
    class place {
      public:
        explicit place(scope& s) noexcept : scope_(&s) { (void)s.running_.change(+1); }
        place(place&& o) noexcept : scope_(std::exchange(o.scope_, nullptr)) {}
        place& operator=(place&&) = delete;
        ~place() {
            if (!scope_) return;
            if (scope_->places_) scope_->places_->release();
            (void)scope_->running_.change(-1); // the last touch
        }
        scope& group() const noexcept { return *scope_; }

      private:
        scope* scope_;
    };
    template <class F> class member {
      public:
        template <class G> member(scope& s, G&& f) : place_(s), f_(std::forward<G>(f)) {}
        member(member&&) = default;
        void operator()() {
            try {
                if constexpr (std::is_invocable_v<F&, const context&>)
                    std::invoke(f_, place_.group().ctx());
                else
                    std::invoke(f_);
            } catch (const unwound&) {
                throw; // no error: the runtime stops
            } catch (...) {
                place_.group().fail(std::current_exception());
            }
        }

      private:
        place place_; // declared first: f is destroyed before the task ceases to count
        F f_;
    };

    void fail(std::exception_ptr error) noexcept {
        {
            std::lock_guard guard(lock_);
            if (first_) return;
            first_ = error;
        }
        ctx_.cancel(std::move(error));
    }

    cancel_context ctx_;
    sync::gate running_;
    std::optional<semaphore> places_; // changes only while no task counts
    base::spinlock lock_;
    std::exception_ptr first_; // guarded by lock_
};

} // namespace mpg
