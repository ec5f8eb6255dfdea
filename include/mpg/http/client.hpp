// The HTTP/1.1 client.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/http/client_exchange.hpp>
#include <mpg/http/client_pool.hpp>
#include <mpg/http/client_proxy.hpp>
#include <mpg/http/client_url.hpp>
#include <mpg/http/field.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/secure.hpp>
#include <mpg/http/tracing.hpp>
#include <mpg/io/result.hpp>
#include <mpg/net/tcp.hpp>
#include <mpg/sync/semaphore.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mpg::http {

struct client_options {
    std::size_t max_idle_per_host = 8;                                // connections kept for later
    std::size_t max_idle = 100;                                       // of all hosts: the oldest ones go
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds(90); // how long
    std::size_t max_header_bytes = 256 << 10;                         // of a response, interim ones included
    std::uint64_t max_body_bytes = 0;                                 // of a response; 0: no limit
    unsigned max_redirects = 10;                                      // 0: they are returned as they are
    std::size_t max_per_host = 0; // requests to one host under way at once; further ones wait; 0: any number
    /// "http://[user:password@]host[:port]", "" for none. Not set: what the environment says (http_proxy,
    /// https_proxy, no_proxy). What should go through a proxy of another kind ("socks5://...") fails with
    /// std::errc::protocol_not_supported.
    std::optional<std::string> proxy = std::nullopt;
    /// How the trace context of a request's context is sent along. Null: not at all. Nor is it where the request's own
    /// headers say something of the kind.
    const propagator* trace_propagator = &default_propagator();
    /// Is told of each request, redirected ones included; a span ends with its response. Null: nobody is.
    span_hook* spans = nullptr;
    /// For https: tls::for_http of <mpg/tls.hpp>. Null: no https.
    std::shared_ptr<const secure_transport> tls = nullptr;
};

/// Gives the next bytes of a body, 0 at its end; an error breaks the request off.
using body_source = std::function<result<std::size_t>(std::span<std::byte>)>;

struct client_request {
    std::string method = "GET";
    /// "http[s]://[user:password@]host[:port]/path?query"; user and password are sent unless `headers` authorise.
    /// An IPv6 address may have a zone: "http://[fe80::1%25eth0]/".
    std::string url;
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::string body = {};
    body_source stream = {}; // a body that is read as it is sent, in place of `body`
    std::optional<std::uint64_t> stream_length = std::nullopt; // not set: sent in chunks
};

/// A response; its body is read from the connection as it is asked for. When it is destroyed with the body
/// read to its end, the connection is kept for the next request, else closed. Move-only; one strand uses it.
class client_response {
  public:
    client_response(client_response&&) noexcept = default;
    client_response& operator=(client_response&& other) noexcept {
        if (this != &other) {
            give_back();
            pool_ = std::move(other.pool_);
            address_ = std::move(other.address_);
            url_ = std::move(other.url_);
            exchange_ = std::move(other.exchange_);
            place_ = std::move(other.place_);
            span_ = std::move(other.span_);
        }
        return *this;
    }
    ~client_response() { give_back(); }

    int status() const noexcept { return exchange_->head().status; }
    /// As request::header.
    std::string_view header(std::string_view name) const noexcept { return exchange_->head().field(name); }
    std::span<const header_field> headers() const noexcept { return exchange_->head().fields; }
    std::optional<std::uint64_t> content_length() const noexcept { return exchange_->head().content_length; }
    /// Its reads end with the context that the request was made with.
    body_reader& body() noexcept { return exchange_->body(); }
    /// Where it came from, after redirects.
    const std::string& url() const noexcept { return url_; }

  private:
    friend class client;
    /// One of the connections that a host may have at once.
    class place {
      public:
        place() noexcept = default;
        explicit place(std::shared_ptr<semaphore> s) noexcept
            : of_(std::move(s)) {}
        place(place&&) noexcept = default;
        place& operator=(place&& other) noexcept {
            leave();
            of_ = std::move(other.of_);
            return *this;
        }
        ~place() { leave(); }
        void leave() noexcept {
            if (of_) of_->release(1);
            of_.reset();
        }

      private:
        std::shared_ptr<semaphore> of_;
    };

    client_response(std::shared_ptr<detail::client_pool> pool, std::string address, std::string url,
                    std::unique_ptr<detail::client_exchange> x, place p) noexcept
        : place_(std::move(p))
        , pool_(std::move(pool))
        , address_(std::move(address))
        , url_(std::move(url))
        , exchange_(std::move(x)) {}

    void give_back() noexcept {
        if (!exchange_ || !exchange_->is_reusable()) return;
        try {
            pool_->put(address_, exchange_->take_link());
        } catch (const std::bad_alloc&) { // then it is closed
        }
        exchange_.reset();
    }

    std::unique_ptr<span> span_; // null: nobody is told; ends last
    place place_; // left when the connection has been given back or closed
    std::shared_ptr<detail::client_pool> pool_;
    std::string address_, url_;
    std::unique_ptr<detail::client_exchange> exchange_;
};

/// Keeps connections for later requests. Any strand may call anything at any time. Only the context limits
/// how long a request may take. The body of a request is sent before its response is read, from memory or as
/// it is read from a source; what is left of it is not sent when a response of 300 or above comes before. After Go's net/http.Client.
class client {
  public:
    client() : client(in_place()) {} // no temporary options: GCC 12 sees one's proxy uninitialised at -O3
    explicit client(client_options options) : client(in_place(), std::move(options)) {}

    /// Errors: std::errc::invalid_argument (URL, method, headers), std::errc::protocol_not_supported (not
    /// http, or https without client_options::tls), std::errc::bad_message, std::errc::message_size (the
    /// header is too long), std::errc::connection_aborted, std::errc::too_many_symbolic_link_levels
    /// (redirects), those of net::tcp_stream and of ctx. Follows redirects as browsers do (301, 302, 303 turn
    /// into GET; credentials stay on their host). A connection that was kept and turns out dead is replaced
    /// once, where the method is idempotent. ctx counts for the response's body, too, as in Go: a
    /// with_timeout() that is written into the call is cancelled when that statement ends. Suspends.
    result<client_response> fetch(client_request request, const context& ctx = context::background()) {
        auto url = detail::client_url::parse(request.url);
        if (!url) return unexpected(url.error());
        for (unsigned hops = 0;; ++hops) {
            auto response = fetch_one(request, *url, ctx);
            if (!response || options_.max_redirects == 0) return response;
            const int status = response->status();
            const std::string_view location = response->header("Location");
            const bool keeps_method = status == 307 || status == 308;
            if (!(keeps_method || status == 301 || status == 302 || status == 303) || location.empty())
                return response;
            if (hops == options_.max_redirects)
                return unexpected(std::make_error_code(std::errc::too_many_symbolic_link_levels));
            auto next = url->resolve(location);
            if (!next) return unexpected(next.error());
            if (keeps_method && request.stream) return response; // the body is gone
            if (!keeps_method && request.method != "HEAD") {
                request.method = "GET";
                request.body.clear();
                request.stream = {};
                forget(request, {"Content-Type", "Content-Length", "Content-Encoding"});
            }
            if (next->authority != url->authority || next->zone != url->zone || (url->secure && !next->secure))
                forget(request, {"Authorization", "Cookie", "Cookie2", "Host", "Proxy-Authorization", "WWW-Authenticate"});
            (void)response->body().read_all(16 << 10); // so that the connection can be used again
            *url = std::move(*next);
        }
    }
    result<client_response> get(std::string_view url, const context& ctx = context::background()) {
        return fetch({.url = std::string(url)}, ctx);
    }
    /// Closes the connections that are kept.
    void close_idle() { pool_->clear(); }

  private:
    struct in_place {
        explicit in_place() = default;
    };
    template <class... Options>
    explicit client(in_place, Options&&... options)
        : options_(std::forward<Options>(options)...)
        , proxy_(choose_proxy(options_, false))
        , secure_proxy_(choose_proxy(options_, true))
        , pool_(std::make_shared<detail::client_pool>(
              options_.max_idle_per_host, options_.max_idle,
              options_.idle_timeout.count() > 0 ? options_.idle_timeout.count() : base::never)) {}

    static void forget(client_request& r, std::initializer_list<std::string_view> names) {
        std::erase_if(r.headers, [&](const auto& h) {
            return std::any_of(names.begin(), names.end(),
                               [&](std::string_view n) { return detail::equal_fold(n, h.first); });
        });
    }

    /// Whether it says that no further request will come (RFC 9112, 9.6).
    static bool closes(const client_request& r) {
        bool said = false;
        for (const auto& [name, value] : r.headers)
            if (detail::equal_fold(name, "Connection"))
                detail::for_each_element(
                    value, [&](std::string_view o) { said = said || detail::equal_fold(o, "close"); });
        return said;
    }

    static detail::client_proxy choose_proxy(const client_options& o, bool secure) {
        if (!o.proxy) return detail::client_proxy::from_environment(secure);
        auto p = detail::client_proxy::parse(*o.proxy, "");
        p.local_too = true;
        return p;
    }

    /// The request line and header; nullopt when something in it cannot be said.
    std::optional<std::string> serialise(const client_request& r, const detail::client_url& url, bool by_proxy,
                                         const trace_context* trace) const {
        if (!detail::is_token(r.method) || r.method == "CONNECT") return std::nullopt;
        std::string host = url.authority, fields;
        bool has_agent = false, authorises = false;
        for (const auto& [name, value] : r.headers) {
            if (!detail::is_token(name) || !detail::is_field_value(value)) return std::nullopt;
            if (detail::equal_fold(name, "Transfer-Encoding")) return std::nullopt;
            if (detail::equal_fold(name, "Content-Length")) continue; // ours is right
            if (detail::equal_fold(name, "Host")) {
                host = value;
                continue;
            }
            has_agent = has_agent || detail::equal_fold(name, "User-Agent");
            authorises = authorises || detail::equal_fold(name, "Authorization");
            (((fields += name) += ": ") += value) += "\r\n";
        }
        if (trace && options_.trace_propagator) {
            detail::field_lines lines(r.headers);
            options_.trace_propagator->inject(*trace, lines);
            fields += lines.take();
        }
        std::string text = r.method + ' ';
        if (by_proxy) (text += "http://") += url.authority;
        (((text += url.target) += " HTTP/1.1\r\nHost: ") += host) += "\r\n";
        if (by_proxy && !proxy_.authorization.empty())
            ((text += "Proxy-Authorization: ") += proxy_.authorization) += "\r\n";
        if (!has_agent) text += "User-Agent: mpg\r\n";
        if (!authorises && !url.credentials.empty())
            ((text += "Authorization: Basic ") += detail::base64(url.credentials)) += "\r\n";
        text += fields;
        if (r.stream && !r.stream_length) {
            text += "Transfer-Encoding: chunked\r\n";
        } else if (r.stream || !r.body.empty() || r.method == "POST" || r.method == "PUT" ||
                   r.method == "PATCH") {
            text += "Content-Length: ";
            detail::append_number(text, r.stream ? *r.stream_length : r.body.size());
            text += "\r\n";
        }
        return text += "\r\n";
    }

    result<client_response> fetch_one(const client_request& r, const detail::client_url& url,
                                      const context& ctx) {
        const trace_context* trace = trace_of(ctx);
        if (!options_.spans) [[likely]] return send(r, url, ctx, trace);
        auto traced = detail::start_client_span(*options_.spans, trace, r.method, url.text(), url.authority);
        if (!traced) return send(r, url, ctx, trace);
        const trace_context here = traced->context();
        auto response = send(r, url, ctx, here.valid() ? &here : trace);
        if (response) {
            detail::set_span_status(*traced, response->status(), 400);
            response->span_ = std::move(traced);
        } else {
            traced->set_error(response.error().message());
        }
        return response;
    }

    result<client_response> send(const client_request& r, const detail::client_url& url, const context& ctx,
                                 const trace_context* trace) {
        if (url.secure && !options_.tls)
            return unexpected(std::make_error_code(std::errc::protocol_not_supported));
        if (const auto& p = url.secure ? secure_proxy_ : proxy_; p.unusable && p.serves(url))
            return unexpected(std::make_error_code(std::errc::protocol_not_supported));
        const bool by_proxy = !url.secure && proxy_.serves(url);
        const auto head = serialise(r, url, by_proxy, trace);
        if (!head || (r.stream && r.method == "HEAD"))
            return unexpected(std::make_error_code(std::errc::invalid_argument));
        // Under which the connection is kept.
        const std::string address = by_proxy     ? proxy_.address
                                    : url.secure ? "https://" + url.address()
                                                 : url.address();
        client_response::place here;
        if (const auto places = pool_->places(url.secure ? address : url.address(), options_.max_per_host)) {
            if (const std::error_code e = places->acquire(ctx, 1)) return unexpected(e);
            here = client_response::place(places);
        }
        const bool repeatable =
            !r.stream && (r.method == "GET" || r.method == "HEAD" || r.method == "OPTIONS" ||
                          r.method == "PUT" || r.method == "DELETE" || r.method == "TRACE");
        for (bool try_kept = true;; try_kept = false) {
            std::unique_ptr<detail::link> link;
            if (try_kept) link = pool_->get(address);
            const bool kept = link != nullptr;
            if (!kept) {
                auto fresh = url.secure ? connect_securely(url, ctx) : connect(address, ctx);
                if (!fresh) return unexpected(fresh.error());
                link = std::move(*fresh);
            }
            auto x = std::make_unique<detail::client_exchange>(std::move(link), ctx);
            if (closes(r)) x->no_more();
            const detail::response_limits limits{options_.max_header_bytes, options_.max_body_bytes,
                                                 r.method == "HEAD"};
            const std::error_code e = r.stream ? x->run_streaming(*head, r.stream, r.stream_length, limits)
                                               : x->run(*head, r.body, limits);
            if (!e) return client_response(pool_, address, url.text(), std::move(x), std::move(here));
            if (!(kept && repeatable && !x->has_begun()) || ctx.is_done()) return unexpected(e);
        }
    }

    static result<std::unique_ptr<detail::link>> connect(const std::string& address, const context& ctx) {
        auto stream = net::tcp_stream::connect(address, ctx);
        if (!stream) return unexpected(stream.error());
        return detail::make_link(std::move(*stream));
    }
    /// A proxy sees nothing but the name.
    result<std::unique_ptr<detail::link>> connect_securely(const detail::client_url& url,
                                                           const context& ctx) {
        const bool by_proxy = secure_proxy_.serves(url);
        auto stream = net::tcp_stream::connect(by_proxy ? secure_proxy_.address : url.address(), ctx);
        if (!stream) return unexpected(stream.error());
        if (by_proxy)
            if (const std::error_code e =
                    detail::open_tunnel(*stream, url.host_and_port(), secure_proxy_.authorization, ctx))
                return unexpected(e);
        return options_.tls->secure(std::move(*stream), url.host(), ctx);
    }

    client_options options_;
    const detail::client_proxy proxy_, secure_proxy_;
    std::shared_ptr<detail::client_pool> pool_;
};

/// One request with a client of its own: no connection is kept.
inline result<client_response> fetch(client_request request, const context& ctx = context::background()) {
    request.headers.emplace_back("Connection", "close");
    return client({.max_idle_per_host = 0}).fetch(std::move(request), ctx);
}
inline result<client_response> get(std::string_view url, const context& ctx = context::background()) {
    return fetch({.url = std::string(url)}, ctx);
}

} // namespace mpg::http
