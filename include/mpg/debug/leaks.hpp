// Tasks that wait for too long.
#pragma once

#include <mpg/debug/dump.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

namespace mpg::debug {

/// Tasks that were started at one place and wait at one place.
struct leak {
    std::size_t count = 0;
    std::chrono::nanoseconds oldest{0}, youngest{0};
    sched::wait_reason reason = sched::wait_reason::none;
    std::string created_at, waits_at; // waits_at: the stack, a frame a line
    std::vector<std::uint64_t> ids;   // at most 16 of them
    bool for_ever = false;            // nothing can end such a wait: a nil channel, select of no case
};

/// Tasks that have waited for at least `limit`, grouped, large groups first. A task that waits long need not be a
/// leak (a server's accept does); a group that grows from one call to the next mostly is. From anywhere; suspends.
inline std::vector<leak> leaks(std::chrono::nanoseconds limit = std::chrono::minutes(1)) {
    snapshot shot = take_snapshot();
    std::vector<leak> out;
    detail::aside([&] {
        detail::on_a_thread([&] {
            using sched::wait_reason;
            detail::symbolizer symbols;
            detail::task_writer write(symbols);
            std::map<std::tuple<const void*, wait_reason, std::size_t>, leak> groups;
            for (const task_info& t : shot.tasks) {
                bool for_ever = t.reason == wait_reason::chan_nil || t.reason == wait_reason::select_no_cases;
                if (t.state != sched::task_state::waiting || (t.waited < limit && !for_ever)) continue;
                leak& l = groups[{t.created_at, t.reason, t.stack}];
                if (l.count++ == 0) {
                    l.reason = t.reason;
                    l.for_ever = for_ever;
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

/// The same, for people.
inline void report_leaks(std::ostream& os, std::chrono::nanoseconds limit = std::chrono::minutes(1)) {
    std::vector<leak> all = leaks(limit);
    if (all.empty()) os << "no task has waited for " << detail::in_words(limit) << "\n";
    for (const leak& l : all) {
        os << l.count << " task" << (l.count == 1 ? "" : "s") << " [" << sched::to_string(l.reason) << ", "
           << detail::in_words(l.youngest) << " to " << detail::in_words(l.oldest)
           << (l.for_ever ? ", can never go on" : "") << "], created at " << l.created_at << "\n    tasks";
        for (std::uint64_t id : l.ids) os << ' ' << id;
        os << (l.ids.size() < l.count ? " ...\n" : "\n") << l.waits_at << "\n";
    }
}

} // namespace mpg::debug
