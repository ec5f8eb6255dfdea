// The context of a request: done when its client goes away, its handler returns or the server is closed.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/wire.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/wait_group.hpp>

#include <optional>

namespace mpg::http::detail {

/// Costs nothing until ctx() is called. Then a task reads on behind the request (once its body is at its end;
/// until then the body's reader sees the client leave): what it reads is the next request's beginning and
/// stays in the input buffer, the end or an error cancels the context. As with Go's background read, a client
/// that has sent more than one read's worth in advance is not watched further.
///
/// The handler's task calls everything here; between body_ended and stop the watching task alone uses the
/// input.
class client_watch {
  public:
    client_watch(wire& w, const context& server) noexcept
        : wire_(w)
        , server_(server) {}
    client_watch(const client_watch&) = delete;
    client_watch& operator=(const client_watch&) = delete;
    ~client_watch() { stop(); }

    const context& ctx(bool body_ended) {
        if (!ctx_) {
            ctx_.emplace(with_cancel(server_));
            if (gone_) ctx_->cancel();
            if (body_ended) start();
        }
        return *ctx_;
    }
    void body_ended() {
        if (ctx_) start();
    }
    /// The client is known to be gone.
    void gone() noexcept {
        gone_ = true;
        if (ctx_) ctx_->cancel();
    }
    /// Ends the watching task, waits for it, and cancels the context.
    void stop() noexcept {
        stopped_ = true;
        if (!ctx_) return;
        if (stop_) {
            sched::no_unwind whatever_happens; // the task uses this object
            stop_->cancel();
            watcher_.wait();
            stop_.reset();
        }
        ctx_->cancel();
    }

  private:
    void start() {
        if (stop_ || gone_ || stopped_ || wire_.in().space() == 0) return;
        stop_.emplace(with_cancel(context::background()));
        wire_.below().set_read_deadline(std::nullopt);
        watcher_.go([this] {
            const auto got = wire_.below().read(wire_.in().room(1), *stop_);
            if (got && *got > 0)
                wire_.in().filled(*got);
            else if (!stop_->is_done())
                ctx_->cancel();
        });
    }

    wire& wire_;
    const context& server_;
    std::optional<cancel_context> ctx_, stop_;
    wait_group watcher_;
    bool gone_ = false, stopped_ = false;
};

} // namespace mpg::http::detail
