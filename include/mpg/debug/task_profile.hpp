// The stacks of all tasks, in the three forms in which Go's net/http/pprof gives them.
#pragma once

#include <mpg/debug/dump.hpp>
#include <mpg/debug/profile.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

namespace mpg::debug::detail {

/// How many tasks have each stack; stacks with most tasks first. Tasks without one stand where they were created.
inline profile tasks_by_stack(const snapshot& shot) {
    std::map<call_stack, std::int64_t> counts;
    for (const task_info& t : shot.tasks) {
        if (t.stack != 0)
            ++counts[shot.stacks[t.stack]];
        else if (t.created_at)
            ++counts[{reinterpret_cast<std::uint64_t>(t.created_at)}];
    }
    profile p;
    p.types = {{"goroutine", "count"}};
    p.period_type = {"goroutine", "count"};
    p.period = 1;
    p.start = std::chrono::system_clock::now();
    for (auto& [stack, n] : counts) p.samples.push_back({stack, {n}});
    std::sort(p.samples.begin(), p.samples.end(), [](const auto& a, const auto& b) {
        return std::tie(b.values, a.stack) < std::tie(a.values, b.stack);
    });
    return p;
}

/// " @ 0x... 0x...", then a line for each frame.
inline void append_frames(std::string& out, const call_stack& stack, symbolizer& symbols) {
    char text[64];
    out += " @";
    for (std::uint64_t pc : stack) {
        std::snprintf(text, sizeof text, " %#llx", static_cast<unsigned long long>(pc + 1));
        out += text;
    }
    out += "\n";
    for (std::uint64_t pc : stack)
        for (const location& l : symbols.at(pc)) {
            std::snprintf(text, sizeof text, "#\t%#llx\t", static_cast<unsigned long long>(pc));
            out += text + (l.function.empty() ? symbols.address(pc) : l.function) + "\t" + l.file + ":" +
                   std::to_string(l.line) + "\n";
        }
    out += "\n";
}

/// debug=1: "3 @ 0x...". pprof reads it as well as people do.
inline std::string grouped_text(const std::string& name, const profile& p, symbolizer& symbols) {
    std::int64_t total = 0;
    for (const auto& s : p.samples) total += s.values[0];
    std::string out = name + " profile: total " + std::to_string(total) + "\n";
    for (const auto& s : p.samples) {
        out += std::to_string(s.values[0]);
        append_frames(out, s.stack, symbols);
    }
    return out;
}

/// debug=1 of contention: nanoseconds (for Go: cycles), times, stack. sampling: 0 where it is not told.
inline std::string contention_text(const std::string& name, std::int64_t sampling, const profile& p, symbolizer& symbols) {
    std::string out = "--- " + name + ":\ncycles/second=1000000000\n";
    if (sampling > 0) out += "sampling period=" + std::to_string(sampling) + "\n";
    for (const auto& s : p.samples) {
        out += std::to_string(s.values[1]) + " " + std::to_string(s.values[0]);
        append_frames(out, s.stack, symbols);
    }
    return out;
}

/// debug=1 of the heap: blocks and bytes in use, allocated, stack. As gperftools write it, whose figures are
/// estimates already; pprof would scale Go's.
inline std::string heap_text(const profile& p, symbolizer& symbols) {
    auto line = [](const std::vector<std::int64_t>& v) {
        return std::to_string(v[2]) + ": " + std::to_string(v[3]) + " [" + std::to_string(v[0]) + ": " + std::to_string(v[1]) + "] @";
    };
    std::vector<std::int64_t> total(4);
    for (const auto& s : p.samples)
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += s.values[i];
    std::string out = "heap profile: " + line(total) + " heapprofile\n";
    for (const auto& s : p.samples) {
        out += line(s.values);
        out.resize(out.size() - 2);
        append_frames(out, s.stack, symbols);
    }
    return out;
}

/// debug=2: as a Go program prints its goroutines when it panics, so that tools that read those read these.
inline std::string full_text(const snapshot& shot, symbolizer& symbols) {
    task_writer write(symbols);
    std::vector<const task_info*> order;
    for (const task_info& t : shot.tasks) order.push_back(&t);
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->id < b->id; });
    std::string out;
    for (const task_info* t : order) {
        out += "goroutine " + std::to_string(t->id) + " [";
        if (t->state == sched::task_state::waiting && t->reason != sched::wait_reason::none)
            out += sched::to_string(t->reason);
        else
            out += sched::to_string(t->state);
        if (auto minutes = std::chrono::duration_cast<std::chrono::minutes>(t->waited).count(); minutes > 0)
            out += ", " + std::to_string(minutes) + " minutes";
        if (!t->name.empty()) out += ", \"" + t->name + "\"";
        out += "]:\n";
        for (std::uint64_t pc : shot.stacks[t->stack])
            for (const location& l : symbols.at(pc)) {
                char text[32];
                std::snprintf(text, sizeof text, " %#llx\n", static_cast<unsigned long long>(pc));
                out += (l.function.empty() ? symbols.address(pc) : l.function) + "\n\t" +
                       (l.file.empty() ? std::string("??") : l.file) + ":" + std::to_string(l.line) + text;
            }
        out += "created by " + write.site(t->created_at);
        if (t->parent != 0) out += " in goroutine " + std::to_string(t->parent);
        out += "\n\n";
    }
    return out;
}

} // namespace mpg::debug::detail
