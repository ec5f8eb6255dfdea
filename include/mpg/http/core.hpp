// What a server's connections share.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/cancel/context.hpp>
#include <mpg/http/exchange.hpp>
#include <mpg/http/options.hpp>
#include <mpg/http/registry.hpp>
#include <mpg/http/router.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/semaphore.hpp>
#include <mpg/sync/wait_group.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http {
class request;
class response;
} // namespace mpg::http

namespace mpg::http::detail {

/// A handler of any type. Called by many tasks at once.
class handler_base {
  public:
    virtual ~handler_base() = default;
    virtual void call(request&, response&) = 0;
};

template <class F> class handler final : public handler_base {
  public:
    template <class G>
    explicit handler(G&& f)
        : f_(std::forward<G>(f)) {}
    void call(request& req, response& res) override { std::invoke(f_, req, res); }

  private:
    F f_;
};

using routes = router<std::unique_ptr<handler_base>>;

/// The routes, which may be added to while requests are served: a reader takes one load, a writer publishes a
/// copy (of the tree; the handlers are shared), and earlier versions live as long as the server.
class route_table {
  public:
    route_table()
        : versions_(1) {
        versions_.front() = std::make_unique<routes>();
        current_.store(versions_.front().get(), std::memory_order_release); // pairs with: get
    }
    const routes& get() const noexcept {
        return *current_.load(std::memory_order_acquire);
    } // pairs with: add

    void add(std::string_view pattern, std::unique_ptr<handler_base> h) {
        std::lock_guard lock(mutex_);
        if (!shared_) return versions_.back()->add(pattern, std::move(h));
        auto next = std::make_unique<routes>(*versions_.back());
        next->add(pattern, std::move(h));
        versions_.push_back(std::move(next));
        current_.store(versions_.back().get(), std::memory_order_release); // pairs with: get
    }
    /// From now on get() may be called concurrently with add().
    void share() {
        std::lock_guard lock(mutex_);
        shared_ = true;
    }

  private:
    mutex mutex_;
    bool shared_ = false;                           // guarded by mutex_
    std::vector<std::unique_ptr<routes>> versions_; // guarded by mutex_
    base::atomic<const routes*> current_{nullptr};  // written under mutex_
};

struct core {
    explicit core(server_options o)
        : options(o)
        , slots(o.max_connections ? o.max_connections : 1)
        , stopping(with_cancel(context::background()))
        , base(with_cancel(context::background())) {}

    const server_options options;
    route_table table;
    std::function<void(const request&, std::exception_ptr)>
        on_exception; // not changed while serving; may be empty
    std::function<void(const request&, const response&, std::chrono::nanoseconds)> on_response; // likewise
    base::atomic<std::uint64_t> accepted{0};
    exchange_pool exchanges;
    registry connections;
    semaphore slots;         // used when connections are limited
    wait_group users;        // tasks and calls that use this object
    wait_group serving;      // calls of serve(), of those
    cancel_context stopping; // shutdown or close was called
    cancel_context base;     // close was called: parent of the requests' contexts
};

/// A call of serve().
class serving_call {
  public:
    explicit serving_call(core& c)
        : core_(c) {
        core_.serving.add(1);
    }
    serving_call(const serving_call&) = delete;
    serving_call& operator=(const serving_call&) = delete;
    ~serving_call() { core_.serving.done(); }

  private:
    core& core_;
};

/// Holds the core for a task or call, and a connection's slot. It may outlive what it was made for unstarted.
class core_user {
  public:
    core_user(core& c, bool with_slot)
        : core_(&c)
        , slot_(with_slot) {
        c.users.add(1);
    }
    core_user(core_user&& other) noexcept
        : core_(std::exchange(other.core_, nullptr))
        , slot_(other.slot_) {}
    core_user& operator=(core_user&&) = delete;
    ~core_user() {
        if (!core_) return;
        if (slot_) core_->slots.release(1);
        core_->users.done();
    }

  private:
    core* core_;
    bool slot_;
};

} // namespace mpg::http::detail
