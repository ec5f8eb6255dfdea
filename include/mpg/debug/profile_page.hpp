// A profile as a page: the parameters, formats and errors of Go's net/http/pprof.
//
//   NAME            profile.proto, compressed
//   NAME?debug=1    text
//   NAME?seconds=N  what changes within N seconds, as profile.proto: the later profile less the earlier one
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/debug/dump.hpp>
#include <mpg/debug/profile.hpp>
#include <mpg/http/request.hpp>
#include <mpg/http/response.hpp>
#include <mpg/http/server.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::debug::detail {

/// Nothing: it is not there, or is no number.
template <class N = long long> std::optional<N> number_in(http::request& req, std::string_view name) {
    const std::optional<std::string> text = req.query(name);
    N n{};
    if (!text) return std::nullopt;
    const char* end = text->data() + text->size();
    const auto [at, failed] = std::from_chars(text->data(), end, n);
    if (failed != std::errc{} || at != end) return std::nullopt;
    return n;
}
inline void plain(http::response& res, std::string_view text) {
    res.header("Content-Type", "text/plain; charset=utf-8").header("X-Content-Type-Options", "nosniff");
    (void)res.write(text);
}
inline void download(http::response& res, std::string_view name, std::string_view data) {
    res.header("Content-Type", "application/octet-stream").header("X-Content-Type-Options", "nosniff");
    res.header("Content-Disposition", "attachment; filename=\"" + std::string(name) + "\"");
    (void)res.write(data);
}
/// The field tells `go tool pprof` to show the text.
inline void refuse(http::response& res, int status, std::string_view why) {
    res.status(status).header("X-Go-Pprof", "1");
    plain(res, std::string(why) + "\n");
}

/// On another thread, for it asks libraries for names. f(symbolizer&).
template <class F> std::string with_symbols(F f) {
    std::string out;
    aside([&] {
        on_a_thread([&] {
            symbolizer symbols;
            out = f(symbols);
        });
    });
    return out;
}
/// profile.proto, compressed.
inline std::string encoded(const profile& p) {
    return with_symbols([&](symbolizer& s) { return gzip(profile_writer(s).encode(p)); });
}

/// after less before, stack by stack. What has not changed is left out; what has become less is negative.
inline profile difference(profile after, const profile& before) {
    std::map<call_stack, std::vector<std::int64_t>> old;
    for (const profile_sample& s : before.samples) old[s.stack] = s.values;
    std::vector<profile_sample> changed;
    auto keep = [&](profile_sample s) {
        if (std::any_of(s.values.begin(), s.values.end(), [](std::int64_t v) { return v != 0; })) changed.push_back(std::move(s));
    };
    for (profile_sample& s : after.samples) {
        if (auto was = old.extract(s.stack))
            for (std::size_t i = 0; i < s.values.size(); ++i) s.values[i] -= was.mapped()[i];
        keep(std::move(s));
    }
    for (auto& [stack, values] : old) {
        for (std::int64_t& v : values) v = -v;
        keep({stack, values});
    }
    after.samples = std::move(changed);
    after.duration = std::chrono::duration_cast<std::chrono::nanoseconds>(after.start - before.start);
    return after;
}

/// While it lives, an answer is prepared, and may take any time: server_options::write_timeout begins when it ends.
class unhurried {
  public:
    unhurried(const http::server& server, http::response& res) : usual_(server.options().write_timeout), res_(res) {
        if (usual_.count() > 0) res_.set_write_deadline(std::nullopt);
    }
    unhurried(const unhurried&) = delete;
    unhurried& operator=(const unhurried&) = delete;
    ~unhurried() {
        if (usual_.count() > 0) res_.set_write_deadline(base::to_time_point(base::deadline_after(usual_)));
    }

  private:
    const std::chrono::nanoseconds usual_;
    http::response& res_;
};

/// Whatever somebody has asked for: thirty years at most.
inline std::chrono::nanoseconds at_most_years(double seconds) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(seconds, 1e9) * 1e9));
}
/// False: the client has gone, or the server closes.
inline bool wait_for_seconds(http::request& req, double seconds) {
    return req.ctx().done().recv_for(at_most_years(seconds)) == chan_status::timeout;
}

/// collect(): the profile now. text(profile, debug, symbolizer&): for people, where debug is not 0.
template <class Collect, class Text>
void serve_profile(const http::server& server, http::request& req, http::response& res, std::string name, Collect collect, Text text) {
    const long long debug = number_in(req, "debug").value_or(0), seconds = number_in(req, "seconds").value_or(0);
    const bool delta = !req.query("seconds").value_or("").empty();
    if (delta && seconds <= 0) return refuse(res, 400, "invalid value for \"seconds\" - must be a positive integer");
    if (delta && debug != 0) return refuse(res, 400, "seconds and debug params are incompatible");
    std::optional<unhurried> preparing(std::in_place, server, res);
    profile now = collect();
    if (delta) {
        if (!wait_for_seconds(req, static_cast<double>(seconds))) return refuse(res, 500, req.ctx().err().message());
        now = difference(collect(), now);
        name += "-delta";
    }
    const std::string answer = debug == 0 ? encoded(now) : with_symbols([&](symbolizer& s) { return text(now, debug, s); });
    preparing.reset();
    if (debug != 0) return plain(res, answer);
    download(res, name, answer);
}

} // namespace mpg::debug::detail
