// mpg-trace: the tasks of a running process, from outside. See README.md beside this file.
#include "session.hpp"
#include "tasks.hpp"

#include <mpg/debug/dump.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <poll.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace mpg_trace {
namespace {

constexpr const char* usage =
    "mpg-trace top PID     who runs: CPU time, time in run queues, switches\n"
    "mpg-trace leaks PID   tasks that were created while this looks on and have not ended, by who created them\n"
    "\n"
    "  -i, --interval SECONDS   between tables (2)\n"
    "  -n, --count N            tables, then end (0: until interrupted, or the process ends)\n"
    "  -r, --rows N             of a table (20)\n"
    "  -s, --sort cpu|wait|switches   top: by what (cpu)\n"
    "  -g, --group              top: tasks created at one place together\n"
    "  -a, --age SECONDS        leaks: only tasks that old (1)\n"
    "      --buffer BYTES       for events, a power of two (16777216)\n"
    "      --btf FILE           the kernel's types, where /sys/kernel/btf/vmlinux is not there\n"
    "      --verbose            what libbpf says\n";

struct wrong_usage : failure {
    using failure::failure;
};

struct options {
    enum class command { top, leaks } run = command::top;
    enum class order { cpu, wait, switches } sort = order::cpu;
    ::pid_t pid = 0;
    double interval = 2, age = 1;
    unsigned count = 0, rows = 20;
    bool group = false;
    session::what probes;
};

template <class N> N number(std::string_view name, std::string_view text, N least, N most) {
    N n{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc{} || end != text.data() + text.size() || !(n >= least) || !(n <= most))
        throw wrong_usage(std::string(name) + ": not such a number: " + std::string(text));
    return n;
}

options parse(int argc, char** argv) {
    options o;
    std::vector<std::string_view> plain;
    for (int i = 1; i < argc; ++i) {
        const std::string_view a = argv[i];
        auto is = [&](const char* brief, const char* full) { return a == brief || a == full; };
        auto value = [&]() -> std::string_view {
            if (i + 1 == argc) throw wrong_usage(std::string(a) + " needs a value");
            return argv[++i];
        };
        if (is("-i", "--interval")) o.interval = number(a, value(), 0.01, 1e6);
        else if (is("-n", "--count")) o.count = number(a, value(), 0u, ~0u);
        else if (is("-r", "--rows")) o.rows = number(a, value(), 1u, ~0u);
        else if (is("-a", "--age")) o.age = number(a, value(), 0.0, 1e9);
        else if (is("-g", "--group")) o.group = true;
        else if (is("-s", "--sort")) {
            const std::string_view by = value();
            if (by == "cpu") o.sort = options::order::cpu;
            else if (by == "wait") o.sort = options::order::wait;
            else if (by == "switches") o.sort = options::order::switches;
            else throw wrong_usage("--sort: cpu, wait or switches, not " + std::string(by));
        } else if (a == "--buffer") {
            o.probes.buffer = number<std::size_t>(a, value(), 4096, std::size_t{1} << 30);
            if (o.probes.buffer & (o.probes.buffer - 1)) throw wrong_usage("--buffer: a power of two");
        } else if (a == "--btf") o.probes.btf = value();
        else if (a == "--verbose") o.probes.verbose = true;
        else if (is("-h", "--help")) {
            std::cout << usage;
            std::exit(0);
        } else if (a.size() > 1 && a[0] == '-') throw wrong_usage("unknown: " + std::string(a));
        else plain.push_back(a);
    }
    if (plain.size() != 2 || (plain[0] != "top" && plain[0] != "leaks")) throw wrong_usage("top or leaks, and the id of a process");
    if (plain[0] == "leaks") o.run = options::command::leaks;
    o.pid = number<::pid_t>("PID", plain[1], 1, 1 << 30);
    o.probes.all = o.run == options::command::top;
    return o;
}

std::atomic<bool> interrupted{false};

std::uint64_t now() { return static_cast<std::uint64_t>(mpg::base::now()); }

std::string format(const char* how, auto... values) {
    char text[160];
    std::snprintf(text, sizeof text, how, values...);
    return text;
}

class tables {
  public:
    tables(const options& o, session& s, const tasks& t, mpg::debug::detail::symbolizer& symbols)
        : options_(o), session_(s), tasks_(t), symbols_(symbols), write_(symbols) {}

    std::string top(std::uint64_t period) {
        struct row {
            std::uint64_t id = 0, tasks = 0, site = 0;
            sums s;
            std::string state;
        };
        std::vector<row> rows;
        std::map<std::uint64_t, row> by_site;
        sums total;
        std::uint64_t seen = 0;
        for (const auto& [id, t] : tasks_.all()) {
            total += t.recent;
            if (t.recent.switches == 0 && t.recent.cpu == 0 && t.recent.queued == 0) continue;
            ++seen;
            if (options_.group) {
                row& r = by_site[t.site];
                r.site = t.site;
                r.s += t.recent;
                ++r.tasks;
            } else {
                rows.push_back({id, 1, t.site, t.recent, state(t)});
            }
        }
        for (auto& [site, r] : by_site) rows.push_back(std::move(r));
        auto key = [&](const row& r) {
            const sums& s = r.s;
            return options_.sort == options::order::cpu ? s.cpu : options_.sort == options::order::wait ? s.queued : s.switches;
        };
        std::sort(rows.begin(), rows.end(), [&](const row& a, const row& b) { return std::make_pair(key(a), b.id) > std::make_pair(key(b), a.id); });
        std::string out = head(period) + format("%llu tasks ran, %llu switches, CPU %.1f %%", as_ull(seen), as_ull(total.switches), percent(total.cpu, period)) +
                          lost() + format("%8s %6s %9s %9s %9s  %-19s %s\n", options_.group ? "TASKS" : "TASK", "CPU %", "CPU ms", "QUEUE ms", "SWITCHES",
                                          options_.group ? "" : "STATE", "CREATED AT");
        for (std::size_t i = 0; i < rows.size() && i < options_.rows; ++i) {
            const row& r = rows[i];
            out += format("%8llu %6.1f %9.2f %9.2f %9llu  %-19s ", as_ull(options_.group ? r.tasks : r.id), percent(r.s.cpu, period), ms(r.s.cpu), ms(r.s.queued),
                          as_ull(r.s.switches), r.state.c_str()) + site(r.site) + "\n";
        }
        return out;
    }

    std::string leaks(std::uint64_t period, std::uint64_t at) {
        struct group {
            std::uint64_t count = 0, youngest = ~std::uint64_t{0}, oldest = 0;
        };
        std::map<place, group> groups;
        const auto least = static_cast<std::uint64_t>(options_.age * 1e9);
        std::uint64_t alive = 0;
        for (const auto& [id, t] : tasks_.all()) {
            if (t.now == activity::ended || t.created == 0) continue;
            ++alive;
            const std::uint64_t age = at > t.created ? at - t.created : 0;
            if (age < least) continue;
            group& g = groups[{t.site, stack(t.stack)}];
            ++g.count;
            g.youngest = std::min(g.youngest, age);
            g.oldest = std::max(g.oldest, age);
        }
        std::string out = head(period) + format("%llu tasks created, %llu ended, %llu alive", as_ull(tasks_.created()), as_ull(tasks_.ended()), as_ull(alive)) + lost();
        std::vector<std::pair<const place*, const group*>> order;
        for (const auto& [where, g] : groups) order.emplace_back(&where, &g);
        std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.second->count > b.second->count; });
        std::map<place, std::uint64_t> counts;
        for (const auto& [where, g] : order) {
            counts[*where] = g->count;
            if (counts.size() > options_.rows) continue;
            const auto before = last_.find(*where);
            out += format("%llu tasks (%+lld), %.1f s to %.1f s old, created at ", as_ull(g->count),
                          static_cast<long long>(g->count - (before != last_.end() ? before->second : 0)),
                          static_cast<double>(g->youngest) / 1e9, static_cast<double>(g->oldest) / 1e9) + site(where->first) + "\n";
            if (!where->second.empty()) out += write_.stack(where->second, true);
        }
        last_ = std::move(counts);
        return out;
    }

  private:
    static unsigned long long as_ull(std::uint64_t n) { return n; }
    static double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }
    static double percent(std::uint64_t part, std::uint64_t of) { return of ? 100.0 * static_cast<double>(part) / static_cast<double>(of) : 0; }
    std::string head(std::uint64_t period) const {
        return format("process %d, %.1f s: ", static_cast<int>(options_.pid), static_cast<double>(period) / 1e9);
    }
    std::string lost() const { return format(", %llu events lost\n", as_ull(session_.lost())); }
    static std::string state(const task& t) {
        switch (t.now) {
        case activity::runnable: return "runnable";
        case activity::running: return "running";
        case activity::waiting: return std::string(to_string(t.why));
        case activity::ended: return "ended";
        case activity::unknown: break;
        }
        return "?";
    }
    const std::string& site(std::uint64_t pc) {
        auto [it, fresh] = sites_.try_emplace(pc);
        if (fresh) it->second = write_.site(reinterpret_cast<const void*>(pc));
        return it->second;
    }

    /// Without the library's own frames at the top; return addresses are moved into the call. The kernel follows frame
    /// pointers: where the program has none, what comes is no code, and the end.
    const std::vector<std::uint64_t>& stack(std::int32_t key) {
        auto [it, fresh] = stacks_.try_emplace(key);
        if (!fresh) return it->second;
        bool innermost = true;
        for (std::uint64_t pc : session_.stack(key)) {
            if (!std::exchange(innermost, false)) --pc;
            const auto& all = symbols_.modules();
            if (std::none_of(all.begin(), all.end(), [&](auto& m) { return pc >= m.start && pc < m.end; })) break;
            const auto& calls = symbols_.at(pc);
            if (it->second.empty() && std::all_of(calls.begin(), calls.end(), [](auto& l) { return mpg::debug::detail::is_library(l); }))
                continue;
            it->second.push_back(pc);
        }
        return it->second;
    }

    using place = std::pair<std::uint64_t, std::vector<std::uint64_t>>; // site, stack
    const options& options_;
    session& session_;
    const tasks& tasks_;
    mpg::debug::detail::symbolizer& symbols_;
    mpg::debug::detail::task_writer write_;
    std::map<std::uint64_t, std::string> sites_;
    std::map<std::int32_t, std::vector<std::uint64_t>> stacks_;
    std::map<place, std::uint64_t> last_;
};

int look(const options& o) {
    session s(o.pid, o.probes);
    const auto handle = static_cast<int>(::syscall(SYS_pidfd_open, o.pid, 0)); // readable once it has ended
    if (handle < 0) throw failure("process " + std::to_string(o.pid) + ": " + in_words(errno));
    mpg::debug::detail::symbolizer symbols(o.pid); // now: the process may end while we look
    tasks all;
    tables write(o, s, all, symbols);
    struct sigaction stop {};
    stop.sa_handler = [](int) { interrupted = true; };
    ::sigaction(SIGINT, &stop, nullptr);
    ::sigaction(SIGTERM, &stop, nullptr);
    std::signal(SIGPIPE, SIG_DFL);
    const bool screen = ::isatty(STDOUT_FILENO) == 1;
    std::cerr << "mpg-trace: attached to process " << o.pid << std::endl;
    const std::uint64_t began = now();
    std::uint64_t last = began;
    for (unsigned shown = 0; o.count == 0 || shown < o.count; ++shown) {
        bool ended = false;
        const std::uint64_t until = last + static_cast<std::uint64_t>(o.interval * 1e9);
        std::uint64_t at = last;
        while (!ended && !interrupted && at < until) {
            // Nobody wakes us for an event (see mpg_trace.bpf.c). A CPU of events has 50 ms to fill the buffer.
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            ::pollfd end{handle, POLLIN, 0};
            ended = ::poll(&end, 1, 0) > 0;
            at = now();
            s.consume([&](const mpg_trace_event& e) { all.take(e); });
        }
        all.settle(at);
        if (screen) std::cout << "\33[H\33[2J";
        std::cout << (o.run == options::command::top ? write.top(at - last) : write.leaks(at - began, at));
        if (!screen) std::cout << '\n';
        std::cout.flush();
        all.next_period();
        last = at;
        if (ended) std::cerr << "mpg-trace: process " << o.pid << " has ended\n";
        if (ended || interrupted || !std::cout) break;
    }
    return 0;
}

} // namespace
} // namespace mpg_trace

int main(int argc, char** argv) {
    try {
        return mpg_trace::look(mpg_trace::parse(argc, argv));
    } catch (const mpg_trace::wrong_usage& e) {
        std::cerr << "mpg-trace: " << e.what() << "\n\n" << mpg_trace::usage;
        return 2;
    } catch (const mpg_trace::failure& e) {
        std::cerr << "mpg-trace: " << e.what() << '\n';
        return 1;
    }
}
