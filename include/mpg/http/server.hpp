// The HTTP/1.1 server.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/http/connection.hpp>
#include <mpg/http/core.hpp>
#include <mpg/http/options.hpp>
#include <mpg/http/stats.hpp>
#include <mpg/net/tcp.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/mutex.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace mpg::http {

/// Serves HTTP/1.0 and 1.1 on any number of listeners, with a task for each connection. After Go's
/// net/http.Server and ServeMux. Anybody may call anything at any time, but for the destructor. What a
/// handler throws is reported on stderr.
class server {
  public:
    explicit server(server_options options = {})
        : core_(options) {}
    server(const server&) = delete;
    server& operator=(const server&) = delete;
    /// Closes, and waits for its connections' tasks, so for the handlers that run: those that look at their
    /// request's ctx() end soon.
    ~server() {
        close();
        sched::no_unwind whatever_happens;
        core_.users.wait();
    }

    /// As they were given.
    const server_options& options() const noexcept { return core_.options; }

    /// Calls f for requests that match the pattern: "[METHOD ][HOST]/[PATH]", where PATH may end with '/'
    /// (all below it) or "{$}" (not what is below), and have {name} for one segment and {name...} at its end
    /// for all the rest. The most specific pattern wins. GET serves HEAD too; CONNECT is served by
    /// patterns that name it and end with "/" behind the host, if any, and nobody but hijack() makes a tunnel. Throws std::invalid_argument
    /// when the pattern is malformed or conflicts with another one. f is called by many tasks at once.
    template <class F>
    requires std::invocable < std::decay_t<F>
    &, request&, response& > void handle(std::string_view pattern, F&& f) {
        core_.table.add(pattern, std::make_unique<detail::handler<std::decay_t<F>>>(std::forward<F>(f)));
    }

    /// Binds and serves. Returns errc::server_closed after shutdown() or close() (which may not be through
    /// yet), or why it cannot.
    std::error_code listen_and_serve(std::string_view addr) {
        auto listener = net::tcp_listener::bind(addr);
        if (!listener) return listener.error();
        return serve(*listener);
    }
    /// Accepts until shutdown() or close(), which close the listener (it must live until then, or until this
    /// returns); returns as listen_and_serve. When the system is out of descriptors or memory it pauses (5
    /// ms, doubling up to 1 s) and goes on. Listener: net::tcp_listener, tls::listener.
    template <class Listener> std::error_code serve(Listener& listener) {
        detail::core_user here(core_, false);
        detail::serving_call until_the_end(core_);
        core_.table.share();
        registration listening(*this, listener);
        if (!listening.ok()) return errc::server_closed;
        const bool limited = core_.options.max_connections > 0;
        std::chrono::milliseconds pause{0};
        while (true) {
            if (limited && core_.slots.acquire(core_.stopping, 1)) return errc::server_closed;
            slot_guard slot{limited ? &core_.slots : nullptr};
            auto stream = listener.accept();
            if (stream && start(std::move(*stream), slot)) {
                pause = std::chrono::milliseconds{0};
                continue;
            }
            if (core_.stopping.is_done()) return errc::server_closed;
            if (!stream && !is_temporary(stream.error())) return stream.error();
            pause = std::clamp(2 * pause, std::chrono::milliseconds{5}, std::chrono::milliseconds{1000});
            (void)core_.stopping.done().recv_for(pause);
        }
    }

    /// Graceful end: closes the listeners and the connections that are idle, answers what has come already,
    /// and waits until the last connection has finished its request. {} then, or why ctx is done: what is
    /// still active goes on; close() ends it. Afterwards the server serves no more. Must not be called from a
    /// handler, which it would wait for.
    std::error_code shutdown(const context& ctx) {
        stop_listening();
        core_.serving.wait(); // not long: then nobody can connect any more
        core_.connections.sweep();
        if (core_.connections.drained().recv(ctx) == chan_status::cancelled) return ctx.err();
        return {};
    }
    /// At once: closes listeners and connections, cancels the requests' contexts. Does not wait.
    void close() noexcept {
        sched::no_unwind whatever_happens;
        stop_listening();
        core_.connections.close_all(); // first: what a handler says because of the context is sent to nobody
        core_.base.cancel();
    }

    /// Calls f when shutdown() or close() begins, before anything else ends: in the caller's task. Not for
    /// long work.
    void on_shutdown(std::function<void()> f) {
        std::lock_guard lock(mutex_);
        on_shutdown_.push_back(std::move(f));
    }

    /// Calls f with what a handler has thrown, in that handler's task, instead of reporting it on stderr.
    /// Before serving.
    void on_exception(std::function<void(const request&, std::exception_ptr)> f) {
        core_.on_exception = std::move(f);
    }

    /// Calls f after each request, in its task: the request, the response as far as it is known (status(), written()) and how
    /// long the handler took: for access logs. Also for those that no handler serves (404, 405, redirects to another path:
    /// their pattern() is "" or that of a wildcard), but not for what is refused as no request (server_stats::refused).
    /// Before serving. f must not throw.
    void on_response(std::function<void(const request&, const response&, std::chrono::nanoseconds)> f) {
        core_.on_response = std::move(f);
    }

    /// Linear in the number of connections.
    server_stats stats() const {
        server_stats s;
        core_.exchanges.add_to(s);
        s.connections_accepted = core_.accepted.load(std::memory_order_relaxed);
        const auto now = core_.connections.count();
        s.connections_active = now.active;
        s.connections_idle = now.idle;
        return s;
    }

    struct connection_counts {
        std::size_t active = 0; // a request is being read or served
        std::size_t idle = 0;
    };
    /// Linear in the number of connections.
    connection_counts connections() const {
        const auto c = core_.connections.count();
        return {c.active, c.idle};
    }

  private:
    struct slot_guard {
        semaphore* slots;
        ~slot_guard() {
            if (slots) slots->release(1);
        }
    };

    /// A listener that serve() uses; stop_listening closes it.
    class registration {
      public:
        template <class Listener>
        registration(server& s, Listener& l)
            : server_(s)
            , listener_(&l)
            , close_([](void* which) { static_cast<Listener*>(which)->close(); }) {
            std::lock_guard lock(s.mutex_);
            ok_ = !s.stopped_;
            if (ok_) s.listeners_.push_back(this);
        }
        registration(const registration&) = delete;
        registration& operator=(const registration&) = delete;
        ~registration() {
            if (!ok_) {
                close();
                return;
            }
            sched::no_unwind whatever_happens;
            std::lock_guard lock(server_.mutex_);
            std::erase(server_.listeners_, this);
        }
        void close() { close_(listener_); }
        bool ok() const noexcept { return ok_; }

      private:
        server& server_;
        void* listener_;
        void (*close_)(void*);
        bool ok_;
    };

    static bool is_temporary(std::error_code e) noexcept {
        if (e.category() != std::system_category() && e.category() != std::generic_category()) return false;
        switch (e.value()) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case ECONNABORTED:
        case EINTR:
        case EAGAIN:
            return true;
        default:
            return false;
        }
    }

    /// Starts the connection's task, which takes the slot over. False: there is no memory; the connection
    /// closes.
    template <class Stream> bool start(Stream stream, slot_guard& slot) {
        try {
            using detail::make_link;
            detail::core_user user(core_, std::exchange(slot.slots, nullptr) != nullptr);
            auto c = std::make_unique<detail::connection>(core_, make_link(std::move(stream)));
            core_.accepted.fetch_add(1, std::memory_order_relaxed);
            if (core_.connections.add(*c)) go(detail::connection_task(std::move(user), std::move(c)));
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    void stop_listening() {
        std::vector<std::function<void()>> hooks;
        {
            std::lock_guard lock(mutex_);
            if (!stopped_) hooks.swap(on_shutdown_);
            stopped_ = true;
        }
        for (auto& f : hooks) f();
        core_.stopping.cancel();
        std::lock_guard lock(mutex_);
        for (registration* l : listeners_) l->close();
    }

    mutex mutex_;
    bool stopped_ = false;                           // guarded by mutex_
    std::vector<registration*> listeners_;           // guarded by mutex_
    std::vector<std::function<void()>> on_shutdown_; // guarded by mutex_
    detail::core core_;
};

} // namespace mpg::http
