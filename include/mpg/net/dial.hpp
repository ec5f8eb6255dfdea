// Connecting to one of several addresses: they race, with handicaps (RFC 8305, "happy eyeballs").
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/endpoint.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/go.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace mpg::net::detail {

/// How long an attempt goes on alone before the next one starts beside it.
inline constexpr std::chrono::milliseconds head_start{250};

/// The families in turn, each in its order, beginning with the first one's.
inline void interleave(std::vector<endpoint>& all) {
    std::vector<endpoint> first, other, mixed;
    for (const endpoint& e : all) (e.family() == all.front().family() ? first : other).push_back(e);
    for (std::size_t i = 0; i < std::max(first.size(), other.size()); ++i) {
        if (i < first.size()) mixed.push_back(first[i]);
        if (i < other.size()) mixed.push_back(other[i]);
    }
    all = std::move(mixed);
}

/// Calls connect(endpoint, cancel_source*) -> result<S> for the candidates, each in a task of its own, the
/// next one when an earlier one has failed or has had its head start. The first success counts; the others
/// are cancelled. When all fail, the error of the first candidate, as in Go. Precondition: called by a task
/// that may suspend.
template <class S, class Connect>
result<S> race(std::vector<endpoint> candidates, const context& ctx, Connect connect) {
    struct finish {
        std::size_t who = 0;
        result<S> what = mpg::unexpected(std::error_code());
    };
    struct state {
        explicit state(const context& parent, std::size_t n)
            : stop(with_cancel(parent))
            , finished(n) {}
        cancel_context stop;
        chan<finish> finished; // never full
    };
    interleave(candidates);
    const auto shared = std::make_shared<state>(ctx, candidates.size());
    struct stopper {
        cancel_context& stop;
        ~stopper() { stop.cancel(); }
    } losers_stop{shared->stop};
    std::error_code first;
    for (std::size_t started = 0, failed = 0; failed != candidates.size();) {
        if (started != candidates.size()) {
            go([shared, connect, to = candidates[started], who = started] {
                shared->finished.send(finish{who, connect(to, sched::source_of(shared->stop))});
            });
            ++started;
        }
        finish f;
        const duration wait = started != candidates.size() ? duration(head_start) : duration::max();
        const chan_status s =
            channels::recv_limited(channels::access::of(shared->finished), f, wait, sched::source_of(ctx));
        if (s == chan_status::cancelled) return mpg::unexpected(ctx.err());
        if (s != chan_status::ok) continue; // the head start is over
        if (f.what) return std::move(f.what);
        ++failed;
        if (f.who == 0) first = f.what.error();
    }
    return mpg::unexpected(ctx.is_done() ? ctx.err() : first);
}

} // namespace mpg::net::detail
