// From a request's method, host and path to its handler: a tree of path segments for each host.
#pragma once

#include <mpg/http/pattern.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::http::detail {

/// The values of a match's wildcards, in the order of the pattern's; views into the request's path, still
/// escaped.
using path_values = std::vector<std::string_view>;

/// Maps patterns to Targets (handlers). Immutable while it is shared: `find` may run concurrently with itself
/// only. `find` visits a node at most once and allocates nothing but room for wildcard values; `add` is
/// linear in the number of patterns.
template <class Target> class router {
  public:
    struct route {
        pattern what;
        Target target;
    };

    /// Throws std::invalid_argument: the pattern is malformed, or conflicts with an earlier one (some request
    /// matches both, and neither is more specific).
    void add(std::string_view text, Target target) {
        auto fresh = std::make_shared<const route>(route{pattern::parse(text), std::move(target)});
        const pattern& p = fresh->what;
        for (const auto& r : routes_) {
            const relation how = p.compare(r->what);
            if (how == relation::equal || how == relation::overlapping)
                bad_pattern(text, ("it conflicts with \"" + r->what.text + '"').c_str());
        }
        node* at = &host_root(p.host);
        for (const segment& s : p.segments) at = &child(*at, s);
        at->routes.push_back(fresh.get());
        routes_.push_back(std::move(fresh));
    }

    /// The most specific route for a request, or null. path: as sent, it begins with '/'. host: without port,
    /// in lower case. HEAD is served by GET where nothing serves it itself.
    const route* find(std::string_view method, std::string_view host, std::string_view path,
                      path_values& values) const {
        const route* found = nullptr;
        each_node(host, path, values, [&](const node& n) {
            found = pick(n, method);
            return found != nullptr;
        });
        return found;
    }

    /// The methods for which a path, or the one with a '/' behind it to which requests are sent, has routes,
    /// sorted and separated by ", ": the Allow header of a 405; "" when it has none.
    std::string allowed(std::string_view host, std::string_view path) const {
        std::vector<std::string_view> methods;
        path_values ignored;
        const auto collect = [&](const node& n) {
            for (const route* r : n.routes) {
                methods.push_back(r->what.method);
                if (r->what.method == "GET") methods.push_back("HEAD");
            }
            return false;
        };
        each_node(host, path, ignored, collect);
        std::string with_slash(path);
        if (!path.empty() && path.back() != '/') each_node(host, with_slash += '/', ignored, collect);
        std::sort(methods.begin(), methods.end());
        methods.erase(std::unique(methods.begin(), methods.end()), methods.end());
        std::string list;
        for (std::string_view m : methods) (list += list.empty() ? "" : ", ") += m;
        return list;
    }

    /// Whether a request is sent to its path with a '/' behind it, as in Go: a pattern ends with exactly that, and what find
    /// has found is at most a wildcard for all that follows.
    bool belongs_to_subtree(std::string_view method, std::string_view host, std::string_view path,
                            const route* found) const {
        if (path.empty() || path.back() == '/' || path == "*") return false;
        if (found && found->what.segments.back().what != segment::kind::rest) return false;
        return has_subtree(method, host, path);
    }
    /// Whether a pattern ends with exactly this path and a '/'.
    bool has_subtree(std::string_view method, std::string_view host, std::string_view path) const {
        std::string with_slash(path);
        with_slash += '/';
        path_values ignored;
        const route* r = find(method, host, with_slash, ignored);
        const auto parts = static_cast<std::size_t>(std::count(with_slash.begin(), with_slash.end(), '/'));
        return r && r->what.segments.size() == parts;
    }

    const std::vector<std::shared_ptr<const route>>& routes() const noexcept { return routes_; }
    /// Whether any pattern names a host; else the host of a request does not matter.
    bool asks_for_hosts() const noexcept {
        return std::any_of(hosts_.begin(), hosts_.end(), [](const host_tree& h) { return !h.host.empty(); });
    }

    router() = default;
    router(router&&) noexcept = default;
    router& operator=(router&&) noexcept = default;
    /// Shares the targets.
    router(const router& other) {
        for (const auto& r : other.routes_) {
            node* at = &host_root(r->what.host);
            for (const segment& s : r->what.segments) at = &child(*at, s);
            at->routes.push_back(r.get());
            routes_.push_back(r);
        }
    }
    router& operator=(const router&) = delete;

  private:
    struct node {
        std::string text;                            // the literal that leads here
        std::vector<std::unique_ptr<node>> literals; // sorted by text
        std::unique_ptr<node> single, rest;
        std::vector<const route*> routes; // patterns that end here; they differ in their method
    };
    struct host_tree {
        std::string host;
        std::unique_ptr<node> root;
    };

    node& host_root(std::string_view host) {
        for (host_tree& h : hosts_)
            if (h.host == host) return *h.root;
        hosts_.push_back({std::string(host), std::make_unique<node>()});
        return *hosts_.back().root;
    }

    static auto position(const node& n, std::string_view text) {
        return std::lower_bound(n.literals.begin(), n.literals.end(), text,
                                [](const auto& c, std::string_view t) { return c->text < t; });
    }

    static node& child(node& n, const segment& s) {
        if (s.what == segment::kind::literal) {
            auto at = position(n, s.text);
            if (at == n.literals.end() || (*at)->text != s.text) {
                at = n.literals.insert(at, std::make_unique<node>());
                (*at)->text = s.text;
            }
            return **at;
        }
        std::unique_ptr<node>& c = s.what == segment::kind::single ? n.single : n.rest;
        if (!c) c = std::make_unique<node>();
        return *c;
    }

    static const route* pick(const node& n, std::string_view method) noexcept {
        const route *any = nullptr, *get = nullptr;
        for (const route* r : n.routes) {
            if (r->what.method == method) return r;
            if (r->what.method.empty()) any = r;
            if (r->what.method == "GET") get = r;
        }
        // Any method but the one that makes a tunnel.
        return get && method == "HEAD" ? get : method == "CONNECT" ? nullptr : any;
    }

    /// Calls f(node) for each node at which a pattern for this path may end, the most specific first, until
    /// it returns true. `values` then holds that match's wildcards.
    template <class F>
    bool each_node(std::string_view host, std::string_view path, path_values& values, F f) const {
        values.clear();
        if (path.empty() || path.front() != '/') return false;
        path.remove_prefix(1);
        for (const bool with_host : {true, false}) {
            if (with_host && host.empty()) continue;
            for (const host_tree& h : hosts_)
                if (h.host == (with_host ? host : std::string_view()) &&
                    visit(*h.root, path, false, values, f))
                    return true;
        }
        return false;
    }

    /// rest: what follows the last '/' that was consumed; at_end: nothing follows, not even an empty segment.
    template <class F>
    static bool visit(const node& n, std::string_view rest, bool at_end, path_values& values, F& f) {
        if (at_end) return !n.routes.empty() && f(n);
        const std::size_t slash = rest.find('/');
        const std::string_view s = rest.substr(0, slash);
        const bool last = slash == std::string_view::npos;
        const std::string_view next = last ? std::string_view() : rest.substr(slash + 1);
        if (const node* c = literal(n, s); c && visit(*c, next, last, values, f)) return true;
        if (n.single && !s.empty()) {
            values.push_back(s);
            if (visit(*n.single, next, last, values, f)) return true;
            values.pop_back();
        }
        if (n.rest) {
            values.push_back(rest);
            if (f(*n.rest)) return true;
            values.pop_back();
        }
        return false;
    }

    static const node* literal(const node& n, std::string_view s) {
        if (n.literals.empty()) return nullptr;
        std::string decoded;
        if (s.find('%') != std::string_view::npos) {
            decode_to(decoded, s);
            s = decoded;
        }
        const auto at = position(n, s);
        return at != n.literals.end() && (*at)->text == s ? at->get() : nullptr;
    }

    std::vector<std::shared_ptr<const route>> routes_;
    std::vector<host_tree> hosts_;
};

} // namespace mpg::http::detail
