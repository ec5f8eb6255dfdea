// Tasks that wait for too long.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/cancel/task_handle.hpp>
#include <mpg/debug/dump.hpp>
#include <mpg/debug/prove.hpp>
#include <mpg/sched/this_task.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mpg::debug {

/// Tasks that were started at one place and wait at one place.
struct leak {
    std::size_t count = 0;
    std::chrono::nanoseconds oldest{0}, youngest{0};
    sched::wait_reason reason = sched::wait_reason::none;
    std::string created_at, waits_at; // waits_at: the stack, a frame a line
    std::vector<std::uint64_t> ids;   // at most 16 of them
    bool for_ever = false;            // nothing can end such a wait: a nil channel, select of no case, or it is proved
    std::string why;                  // "task 17 waits for ever: ...", of one of them, where it is proved

    leak() = default;
    leak(const leak&) = default;
    leak(leak&&) = default;
    leak& operator=(const leak&) = default;
    leak& operator=(leak&&) = default;
    ~leak() { detail::forget(created_at, waits_at, ids, why); }
};

/// Tasks that have waited for at least `limit`, grouped, large groups first. A task that waits long need not be a
/// leak (a server's accept does); a group that grows from one call to the next mostly is. Tasks of whom it is known that
/// they can never go on are groups of their own, and there whatever their age; prove: look for such first (prove_stuck,
/// which stops the process for a moment). From anywhere; suspends.
inline std::vector<leak> leaks(std::chrono::nanoseconds limit = std::chrono::minutes(1), bool prove = false) {
    if (prove) (void)prove_stuck();
    snapshot shot = take_snapshot();
    std::vector<leak> out;
    detail::aside([&] {
        detail::on_a_thread([&] {
            using sched::wait_reason;
            detail::symbolizer symbols;
            detail::task_writer write(symbols);
            std::map<std::tuple<const void*, wait_reason, std::size_t, bool>, leak> groups;
            for (const task_info& t : shot.tasks) {
                bool for_ever = t.reason == wait_reason::chan_nil || t.reason == wait_reason::select_no_cases || !t.for_ever.empty();
                if (t.state != sched::task_state::waiting || (t.waited < limit && !for_ever)) continue;
                leak& l = groups[{t.created_at, t.reason, t.stack, for_ever}];
                if (l.count++ == 0) {
                    l.reason = t.reason;
                    l.for_ever = for_ever;
                    l.why = t.for_ever;
                    l.youngest = t.waited;
                    l.created_at = write.site(t.created_at);
                    l.waits_at = write.stack(shot.stacks[t.stack], shot.whole[t.stack]);
                }
                l.oldest = std::max(l.oldest, t.waited);
                l.youngest = std::min(l.youngest, t.waited);
                if (l.ids.size() < 16) l.ids.push_back(t.id);
            }
            for (auto& [key, l] : groups) out.push_back(std::move(l));
        });
    });
    std::sort(out.begin(), out.end(), [](const leak& a, const leak& b) { return a.count > b.count; });
    return out;
}

namespace detail {

/// How large groups were when a leak_watch last looked, oldest first.
class leak_history {
  public:
    static constexpr std::size_t most = 12;

    static leak_history& instance() {
        static leak_history& h = *new leak_history;
        return h;
    }
    /// By how much each has grown since the look before; in the order of all.
    std::vector<long long> note(const std::vector<leak>& all, std::chrono::nanoseconds period) {
        std::lock_guard hold(mutex_);
        period_ = period;
        std::set<key> seen;
        std::vector<long long> growth;
        for (const leak& l : all) {
            std::deque<std::size_t>& n = counts_[key_of(l)];
            growth.push_back(static_cast<long long>(l.count) - static_cast<long long>(n.empty() ? 0 : n.back()));
            seen.insert(key_of(l));
            n.push_back(l.count);
            if (n.size() > most) n.pop_front();
        }
        std::erase_if(counts_, [&](const auto& old) { return !seen.count(old.first); });
        return growth;
    }
    void clear() {
        std::lock_guard hold(mutex_);
        counts_.clear();
    }
    /// "3 12 40, a look every 60.0 s"; "" when nobody watches.
    std::string of(const leak& l) {
        std::lock_guard hold(mutex_);
        auto it = counts_.find(key_of(l));
        if (it == counts_.end()) return {};
        std::string s;
        for (std::size_t n : it->second) s += std::to_string(n) + " ";
        s.back() = ',';
        return s + " a look every " + in_words(period_);
    }

  private:
    using key = std::tuple<std::string, sched::wait_reason, std::string, bool>;
    static key key_of(const leak& l) { return {l.created_at, l.reason, l.waits_at, l.for_ever}; }

    std::mutex mutex_; // guards all; never held over a wait
    std::chrono::nanoseconds period_{0};
    std::map<key, std::deque<std::size_t>> counts_;
};

} // namespace detail

struct leak_watch_options {
    std::chrono::nanoseconds period = std::chrono::minutes(1);
    /// Who has waited for so long.
    std::chrono::nanoseconds limit = std::chrono::minutes(1);
    /// Groups smaller than this are not told, unless nothing can end their wait.
    std::size_t least = 2;
    /// At each look, search for tasks that can never go on (prove_stuck): it stops the process for a moment.
    bool prove = false;
    /// Takes a line without its end; not set: stderr.
    std::function<void(const std::string&)> log = nullptr;
};

/// One at a time: while it lives, a task looks for leaks once a period and logs a line for each group that has grown since the last look;
/// report_leaks and the page /debug/pprof/leaks then show how the groups grew. Made and destroyed by a task. It sleeps on a
/// timer, so the process is not said to be deadlocked while it lives.
class leak_watch {
  public:
    explicit leak_watch(leak_watch_options o = {})
        : stop_(with_cancel(context::background())), task_(spawn([o = std::move(o), ctx = context(stop_)] { run(o, ctx); })) {}
    leak_watch(const leak_watch&) = delete;
    leak_watch& operator=(const leak_watch&) = delete;
    ~leak_watch() {
        stop_.cancel();
        sched::no_unwind whatever_happens;
        (void)task_.done().recv();
    }

  private:
    static void run(const leak_watch_options& o, const context& ctx) {
        this_task::set_name("leak watch");
        detail::leak_history::instance().clear();
        while (ctx.done().recv_for(o.period) == chan_status::timeout) {
            const std::vector<leak> all = leaks(o.limit, o.prove);
            const std::vector<long long> growth = detail::leak_history::instance().note(all, o.period);
            for (std::size_t i = 0; i < all.size(); ++i) {
                const leak& l = all[i];
                if (growth[i] <= 0 || (l.count < o.least && !l.for_ever)) continue;
                const std::string line = "leak: " + std::to_string(l.count) + " tasks (+" + std::to_string(growth[i]) + " in " +
                                         detail::in_words(o.period) + ") [" + std::string(sched::to_string(l.reason)) + ", up to " +
                                         detail::in_words(l.oldest) + (l.for_ever ? ", can never go on" : "") + "], created at " +
                                         l.created_at;
                if (o.log)
                    o.log(line);
                else
                    std::fprintf(stderr, "%s\n", line.c_str());
            }
        }
    }

    cancel_context stop_;
    task<void> task_;
};

/// leaks(), for people.
inline void report_leaks(std::ostream& os, std::chrono::nanoseconds limit = std::chrono::minutes(1), bool prove = false) {
    if (prove)
        if (const proof p = prove_stuck(); !p.failure.empty()) os << "no proof: " << p.failure << "\n";
    std::vector<leak> all = leaks(limit);
    if (all.empty()) os << "no task has waited for " << detail::in_words(limit) << "\n";
    for (const leak& l : all) {
        os << l.count << " task" << (l.count == 1 ? "" : "s") << " [" << sched::to_string(l.reason) << ", "
           << detail::in_words(l.youngest) << " to " << detail::in_words(l.oldest)
           << (l.for_ever ? ", can never go on" : "") << "], created at " << l.created_at << "\n    tasks";
        for (std::uint64_t id : l.ids) os << ' ' << id;
        os << (l.ids.size() < l.count ? " ...\n" : "\n");
        if (!l.why.empty()) os << "    " << l.why << "\n";
        if (const std::string past = detail::leak_history::instance().of(l); !past.empty()) os << "    counts: " << past << "\n";
        os << l.waits_at << "\n";
    }
}

} // namespace mpg::debug
