// A list of all tasks with their stacks, for people.
#pragma once

#include <mpg/debug/snapshot.hpp>
#include <mpg/debug/symbols.hpp>
#include <mpg/sched/blocking.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace mpg::debug {

namespace detail {

inline bool is_one_of(std::string_view name, std::initializer_list<std::string_view> prefixes) {
    for (std::string_view p : prefixes)
        if (name.substr(0, p.size()) == p) return true;
    return false;
}
/// "void mpg::sched::park<int>(int)" -> "mpg::sched::park<int>(int)": templates are named with their result.
inline std::string_view without_result(std::string_view name) {
    std::size_t depth = 0, begin = 0;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const char c = name[i];
        if (c == '(' && depth == 0 && i != begin) break; // the parameters; else "(anonymous namespace)"
        if (c == '<' || c == '(' || c == '{') ++depth;
        if ((c == '>' || c == ')' || c == '}') && depth > 0) --depth;
        if (c == ' ' && depth == 0) begin = i + 1;
    }
    return name.substr(begin);
}
/// Code of this library and the standard one. Where debug information is terse, inlined functions have bare names:
/// then the file tells.
inline bool is_library(const location& l) {
    return is_one_of(without_result(l.function), {"mpg::", "std::"}) || l.file.find("include/mpg/") != std::string::npos ||
           l.file.find("/include/c++/") != std::string::npos;
}
/// The scheduler's own frames above a wait, and ours above a call of this room. Without debug information the name tells.
inline bool is_above(const location& l) {
    return is_one_of(without_result(l.function), {"mpg::fiber::", "mpg::sched::", "mpg::debug::"}) ||
           l.file.find("include/mpg/sched/") != std::string::npos || l.file.find("include/mpg/debug/") != std::string::npos;
}
/// The frames below a task's function: those that call it.
inline bool is_below(const location& l) {
    return is_library(l) || l.function.find(" mpg::sched::") != std::string::npos ||
           l.function.find(" mpg::cancel::") != std::string::npos;
}

inline std::string in_words(std::chrono::nanoseconds d) {
    char text[48];
    double s = std::chrono::duration<double>(d).count();
    if (s < 1e-3) std::snprintf(text, sizeof text, "%.0f us", s * 1e6);
    else if (s < 1) std::snprintf(text, sizeof text, "%.0f ms", s * 1e3);
    else if (s < 120) std::snprintf(text, sizeof text, "%.1f s", s);
    else std::snprintf(text, sizeof text, "%.0f minutes", s / 60);
    return text;
}

/// Writes text about tasks.
class task_writer {
  public:
    explicit task_writer(symbolizer& symbols) : symbols_(symbols) {}

    /// Where a task was started: the innermost function that is not the library's own. Never without a function: if need be
    /// that is an address.
    location origin(const void* created_at) {
        auto pc = reinterpret_cast<std::uint64_t>(created_at);
        for (const location& l : symbols_.at(pc)) {
            if (l.inlined && is_library(l)) continue;
            if (is_library(l)) // The debug information has no scope for the inlined call here: the next line of the caller's own file.
                for (std::uint64_t next = pc + 1; next < pc + 64; ++next)
                    for (const location& n : symbols_.at(next))
                        if (!is_library(n) && !n.file.empty() && (n.inlined || n.function == l.function))
                            return named(n, n.function.empty() ? named(l, pc).function : n.function);
            return named(l, pc);
        }
        return named(symbols_.at(pc).front(), pc);
    }
    /// "foo(int) at file.cpp:12", or an address.
    std::string site(const void* created_at) {
        if (!created_at) return "an unknown place";
        const location l = origin(created_at);
        return l.function + (l.file.empty() ? "" : " at " + l.file + ":" + std::to_string(l.line));
    }
    /// "task 7 "name" [waiting: chan receive, 3 ms]"
    static std::string head(const task_info& t) {
        std::string s = "task " + std::to_string(t.id);
        if (!t.name.empty()) s += " \"" + t.name + "\"";
        s += std::string(" [") + sched::to_string(t.state);
        if (t.state == sched::task_state::waiting && t.reason != sched::wait_reason::none)
            s += ": " + std::string(sched::to_string(t.reason));
        if (t.waited.count() > 0) s += ", " + in_words(t.waited);
        if (!t.for_ever.empty()) s += ", for ever";
        return s + "]";
    }
    std::string created(const task_info& t) {
        std::string s = "created";
        if (t.parent != 0) s += " by task " + std::to_string(t.parent);
        return s + " at " + site(t.created_at);
    }
    /// A frame a line, indented; without the scheduler's own frames if others are left.
    std::string stack(const call_stack& frames, bool whole, const char* indent = "    ") {
        std::string out;
        std::vector<std::pair<const location*, std::uint64_t>> all;
        for (std::uint64_t pc : frames)
            for (const location& l : symbols_.at(pc)) all.emplace_back(&l, pc);
        std::size_t first = 0, last = all.size();
        while (first < last && is_above(*all[first].first)) ++first;
        while (last > first && is_below(*all[last - 1].first)) --last;
        if (first == last) first = 0, last = all.size();
        for (std::size_t i = first; i < last; ++i) {
            const location& l = *all[i].first;
            out += indent;
            out += l.function.empty() ? symbols_.address(all[i].second) : l.function;
            if (!l.file.empty()) out += "\n" + std::string(indent) + "    " + l.file + ":" + std::to_string(l.line);
            out += "\n";
        }
        if (!whole && !frames.empty()) out += std::string(indent) + "...\n";
        return out;
    }

  private:
    static location named(location l, std::string function) {
        l.function = std::move(function);
        return l;
    }
    location named(const location& l, std::uint64_t pc) const { return named(l, l.function.empty() ? symbols_.address(pc) : l.function); }

    symbolizer& symbols_;
};

/// The tasks of a snapshot, those with equal stacks together, large groups last.
inline std::string text_of(const snapshot& shot, symbolizer& symbols) {
    task_writer write(symbols);
    std::vector<const task_info*> order;
    std::vector<std::size_t> sizes(shot.stacks.size());
    for (const task_info& t : shot.tasks) {
        order.push_back(&t);
        ++sizes[t.stack];
    }
    // Tasks without a stack (not started, or it could not be had) stand apart; they share nothing.
    std::sort(order.begin(), order.end(), [&](const task_info* a, const task_info* b) {
        auto key = [&](const task_info* t) {
            return std::make_tuple(t->stack == 0, sizes[t->stack], t->stack, t->id);
        };
        return key(a) < key(b);
    });
    std::string out;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const task_info& t = *order[i];
        out += task_writer::head(t) + ", " + write.created(t) + "\n";
        if (!t.for_ever.empty()) out += "    " + t.for_ever + "\n";
        bool last = i + 1 == order.size() || order[i + 1]->stack != t.stack;
        if (!last) continue;
        if (t.stack != 0) {
            if (sizes[t.stack] > 1) out += "    (" + std::to_string(sizes[t.stack]) + " tasks with this stack)\n";
            out += write.stack(shot.stacks[t.stack], shot.whole[t.stack]);
        }
        out += "\n";
    }
    return out;
}

/// On a thread of its own, because of the libraries' appetite for stack.
inline std::string report_of(sched::runtime_state& rt, const std::vector<capture>& known) {
    std::string out;
    on_a_thread([&] {
        snapshot shot;
        photographer(rt, shot, known).take();
        symbolizer symbols;
        out = text_of(shot, symbols);
    });
    return out;
}

/// The caller's own stack, when it is a task.
inline std::vector<capture> captured_self() {
    std::vector<capture> known;
    sched::machine* m = sched::this_machine();
    if (m && m->cur && m->cur->rt) known.push_back(capture_self(*m->cur));
    return known;
}

/// Runs f, which takes its time and suspends nowhere, without holding a P up; in a destructor that runs because of
/// unwinding, too.
template <class F> void aside(F f) {
    sched::machine* m = sched::this_machine();
    if (m && m->cur && m->cur->rt && m->p) {
        sched::no_unwind whatever_happens;
        mpg::blocking(f);
    } else {
        f();
    }
}

} // namespace detail

/// All tasks of all runtimes, while they go on. From anywhere; a task that calls it suspends. About 10 us a task. See
/// snapshot.hpp for how it can be.
inline snapshot take_snapshot() {
    snapshot shot;
    std::vector<detail::capture> known = detail::captured_self();
    detail::pinned runtimes;
    detail::aside([&] {
        detail::on_a_thread([&] {
            for (sched::runtime_state* rt : runtimes) detail::photographer(*rt, shot, known).take();
        });
    });
    return shot;
}

/// Writes every task of every runtime: id, name, state (what it waits for, and for how long), who started it and where,
/// and its stack, those with the same stack together. From anywhere, at any moment; a task that calls it suspends.
inline void dump_tasks(std::ostream& os) {
    std::string out;
    std::vector<detail::capture> known = detail::captured_self();
    {
        detail::pinned runtimes;
        detail::aside([&] {
            std::size_t n = 0;
            for (sched::runtime_state* rt : runtimes) {
                if (runtimes.size() > 1) out += "runtime " + std::to_string(++n) + " of " + std::to_string(runtimes.size()) + "\n\n";
                out += detail::report_of(*rt, known);
            }
        });
    }
    os << out << std::flush;
}

} // namespace mpg::debug
