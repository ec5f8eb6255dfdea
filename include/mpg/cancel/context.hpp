// context: when to give up, why, and what belongs to a request.
#pragma once

#include <mpg/cancel/context_state.hpp>

#include <chrono>
#include <concepts>
#include <exception>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

namespace mpg {

class context;
class cancel_context;

namespace cancel {
cancel_context make_child(const context& parent, base::nanos deadline, base::nanos now);
} // namespace cancel

/// Tells operations that wait when to give up. A handle of one pointer: copies are the same context. A
/// context is done when it is cancelled, when its deadline passes, or when its parent is done, and stays
/// done. Every member may be called by any strand at any time; none suspends. A handle itself is like a plain
/// pointer: not to be assigned while others use it. A moved-from context is background().
class context {
  public:
    /// background(); something to assign to.
    context() noexcept : node_(nullptr) {}
    /// The root: never done, no deadline, no values.
    static context background() noexcept { return context(nullptr); }

    context(const context& o) noexcept : node_(cancel::share(o.node_)) {}
    context(context&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
    context& operator=(const context& o) noexcept {
        context copy(o);
        std::swap(node_, copy.node_);
        return *this;
    }
    context& operator=(context&& o) noexcept {
        context taken(std::move(o));
        std::swap(node_, taken.node_);
        return *this;
    }
    ~context() { cancel::drop(node_); }

    /// Closed when the context is done; nil when that never happens. The first call allocates.
    recv_chan<void> done() const {
        cancel::cancel_node* s = source();
        return s ? s->done_channel() : recv_chan<void>(nullptr);
    }
    /// One load.
    bool is_done() const noexcept {
        cancel::cancel_node* s = source();
        return s && s->is_done();
    }
    /// {} until it is done; then errc::cancelled or errc::deadline_exceeded.
    std::error_code err() const noexcept {
        cancel::cancel_node* s = source();
        return s ? s->err() : std::error_code{};
    }
    /// Null until it is done; then the cause that was given first, here or above, or else a std::system_error
    /// of err().
    std::exception_ptr cause() const {
        cancel::cancel_node* s = source();
        if (!s || !s->is_done()) return nullptr;
        if (s->given_cause()) return s->given_cause();
        return std::make_exception_ptr(std::system_error(s->err()));
    }
    /// The earliest deadline from here to the root.
    std::optional<time_point> deadline() const noexcept {
        cancel::cancel_node* s = source();
        if (!s || s->deadline() == base::never) return std::nullopt;
        return base::to_time_point(s->deadline());
    }
    /// The nearest value of key K on the way to the root, or null. It lives as long as this context. Cost: a
    /// step for each context on the way.
    template <class K> const typename K::type* value() const noexcept {
        for (cancel::node* n = node_; n; n = n->parent)
            if (const void* found = n->find(cancel::key_of<K>())) return static_cast<const typename K::type*>(found);
        return nullptr;
    }

  private:
    friend class cancel_context;
    friend sched::cancel_source* sched::source_of(const context&) noexcept;
    template <class K>
    friend context with_value(const context& parent, std::type_identity_t<typename K::type> v);
    friend cancel_context cancel::make_child(const context& parent, base::nanos deadline, base::nanos now);

    explicit context(cancel::node* taken) noexcept : node_(taken) {}
    cancel::cancel_node* source() const noexcept { return node_ ? node_->source : nullptr; }

    cancel::node* node_; // null: background
};

inline sched::cancel_source* sched::source_of(const context& ctx) noexcept { return ctx.source(); }

/// A context that its owner can cancel; dropping it cancels. Move-only; copies of it as a context do not
/// cancel. Several strands may cancel at the same time.
class cancel_context : public context {
  public:
    /// Never done; something to assign to.
    cancel_context() noexcept = default;
    cancel_context(cancel_context&&) noexcept = default;
    cancel_context& operator=(cancel_context&& o) noexcept {
        if (this != &o) {
            cancel();
            context::operator=(std::move(o));
        }
        return *this;
    }
    ~cancel_context() { cancel(); }

    /// When it returns, this context and its descendants are done; the first of all reasons counts. Wakes who
    /// waits for them; does not suspend.
    void cancel() noexcept { cancel(nullptr); }
    void cancel(std::exception_ptr cause) noexcept {
        if (cancel::cancel_node* s = source()) s->cancel(std::move(cause));
    }

  private:
    friend cancel_context cancel::make_child(const context& parent, base::nanos deadline, base::nanos now);
    explicit cancel_context(cancel::cancel_node* taken) noexcept : context(taken) {}
};

/// now: the time, where there is a deadline.
inline cancel_context cancel::make_child(const context& parent, base::nanos deadline, base::nanos now) {
    auto* made = new cancel_node(parent.node_, deadline);
    share(parent.node_);
    cancel_context child(made);
    made->start(now);
    return child;
}

/// A child that can be cancelled. One allocation.
[[nodiscard]] inline cancel_context with_cancel(const context& parent) {
    return cancel::make_child(parent, base::never, 0);
}

/// A child that is done with errc::deadline_exceeded at t, if not earlier; the parent's deadline counts when
/// it is earlier. On a plain thread the current or default runtime serves it; with none alive:
/// std::logic_error.
[[nodiscard]] inline cancel_context with_deadline(const context& parent, time_point t) {
    return cancel::make_child(parent, base::to_nanos(t), base::now());
}

/// As with_deadline, d from now. nanoseconds::max(): no deadline.
[[nodiscard]] inline cancel_context with_timeout(const context& parent, base::any_duration d) {
    base::nanos now = base::now();
    return cancel::make_child(parent, base::deadline_after(d, now), now);
}

/// A child with a value for key K, a type { using type = ...; }. It is done when its parent is. One
/// allocation.
template <class K>
[[nodiscard]] context with_value(const context& parent, std::type_identity_t<typename K::type> v) {
    auto* made = new cancel::value_node<K>(parent.node_, std::move(v));
    cancel::share(parent.node_);
    return context(made);
}

} // namespace mpg
