// The flight recorder, and the notes of the USDT probes.
// ctest: lines
// ctest: needs:go golang-go
// ctest: needs:python3 python3
// ctest: needs:readelf binutils
#include "shell.hpp"
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace {

using mpg::test::shell;
using namespace std::chrono_literals;

/// A file that goes when this goes.
struct kept {
    std::string path;
    kept(const char* ending, const std::string& bytes) : path("/tmp/mpg_trace_test." + std::to_string(::getpid()) + ending) {
        std::ofstream(path, std::ios::binary) << bytes;
    }
    ~kept() { std::filesystem::remove(path); }
};
std::string go_trace() {
    std::ostringstream os;
    mpg::debug::write_go_trace(os);
    return os.str();
}
/// The events of a trace, by name, as `go tool trace -d` prints them; it refuses what is not consistent.
std::map<std::string, int> events_in(const std::string& trace, std::string* all = nullptr) {
    const kept file(".trace", trace);
    int rc = -1;
    const std::string text = shell("go tool trace -d " + file.path, &rc);
    EXPECT_EQ(rc, 0) << text.substr(0, 1000);
    std::map<std::string, int> counts;
    std::istringstream lines(text);
    std::uint64_t time = 0;
    std::string name;
    for (std::string line; std::getline(lines, line);)
        if (std::istringstream words(line); words >> time >> name) ++counts[name];
    if (all) *all = text;
    return counts;
}
/// A profile that `go tool trace` makes of a trace.
std::string profile_of(const std::string& trace, const std::string& kind) {
    const kept file(".trace", trace);
    int rc = -1;
    const std::string text = shell("go tool trace -pprof=" + kind + " " + file.path + " > " + file.path + ".pb && PPROF_TMPDIR=/tmp go tool pprof -traces " + file.path + ".pb", &rc);
    EXPECT_EQ(rc, 0) << text;
    std::filesystem::remove(file.path + ".pb");
    return text;
}
void wait_until_alone() {
    // A task has ended a little later than it has said done.
    EXPECT_TRUE(mpg::test::eventually([] {
        const mpg::runtime_stats s = mpg::runtime::current()->stats();
        return s.tasks_runnable + s.tasks_running + s.tasks_waiting + s.tasks_blocking + s.tasks_frozen == 1;
    }));
}

struct flight_recorder : mpg::test::with_procs {};
MPG_TEST_PROCS(flight_recorder);

TEST_P(flight_recorder, writes_json_with_a_slice_for_each_run) {
    std::string text;
    run([&] {
        mpg::debug::start_trace();
        EXPECT_TRUE(mpg::debug::tracing());
        mpg::chan<int> c;
        mpg::wait_group g;
        g.go([&] {
            for (int i = 0; i < 100; ++i) c.send(i);
            c.close();
        });
        g.go([&] {
            for (int v : c) (void)v;
        });
        g.wait();
        wait_until_alone();
        mpg::debug::stop_trace();
        EXPECT_FALSE(mpg::debug::tracing());
        std::ostringstream os;
        mpg::debug::write_trace(os);
        text = os.str();
    });
    const kept file(".json", text);
    int rc = -1;
    // Parsed by somebody else; slices of a P must not overlap.
    std::string said = shell(R"py(python3 -c '
import json, sys, collections
events = json.load(open(sys.argv[1]))["traceEvents"]
slices = [e for e in events if e["ph"] == "X"]
reasons = collections.Counter(e["args"]["ended by"] for e in slices)
assert reasons["end"] >= 2, reasons
assert reasons["chan send"] + reasons["chan receive"] >= 50, reasons
assert any("TestBody" in e["name"] or "operator()" in e["name"] or "debug_trace_test" in e["name"] for e in slices), slices[0]
tracks = collections.defaultdict(list)
names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
for e in slices: tracks[e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
for t, all in tracks.items():
    if names[t] == "without a P": continue
    all.sort()
    for a, b in zip(all, all[1:]): assert a[1] <= b[0] + 0.002, (t, a, b)
print(len(slices), "slices")
' )py" + file.path, &rc);
    EXPECT_EQ(rc, 0) << said;
}

TEST_P(flight_recorder, shows_who_ran_before_the_ring_begins_and_who_runs_still) {
    run([] {
        mpg::debug::start_trace();
        const std::uint64_t self = mpg::this_task::id(); // its start was not recorded
        mpg::sleep_for(1ms);
        std::ostringstream os;
        mpg::debug::write_trace(os);
        const std::string text = os.str(), name = "\"name\":\"task " + std::to_string(self) + " ";
        const std::size_t first = text.find(name);
        ASSERT_NE(first, std::string::npos) << text;
        EXPECT_EQ(text.find("\"ended by\":\"sleep\"", first), text.find("\"ended by\"", first)) << text;

        std::atomic<bool> enough{false};
        auto hog = mpg::spawn([&] {
            while (!enough) {}
        });
        std::thread looks([&] { // a plain one: where nobody is preempted, the hog has the only P
            EXPECT_TRUE(mpg::test::eventually([&] {
                std::ostringstream now;
                mpg::debug::write_trace(now);
                const std::string with_hog = now.str(), of_hog = "\"name\":\"task " + std::to_string(hog.id()) + " ";
                for (std::size_t at = 0; (at = with_hog.find(of_hog, at)) != std::string::npos; ++at)
                    if (with_hog.compare(with_hog.find("\"ended by\":", at), 25, "\"ended by\":\"it runs still", 25) == 0) return true;
                return false;
            }));
            enough = true;
        });
        mpg::blocking([&] { looks.join(); });
        hog.join();
        mpg::debug::stop_trace();
    });
}

TEST_P(flight_recorder, is_on_from_the_start_by_option) {
    mpg::options o;
    o.procs = procs();
    o.record_events = 128;
    mpg::run(o, [] {
        EXPECT_TRUE(mpg::debug::tracing());
        for (int i = 0; i < 10; ++i) mpg::spawn([] { mpg::yield(); }).join();
        const std::string trace = go_trace();
        mpg::blocking([&] {
            auto n = events_in(trace);
            EXPECT_GE(n["GoCreate"], 1);
            EXPECT_GE(n["GoStart"], 1);
        });
        mpg::debug::stop_trace();
        EXPECT_FALSE(mpg::debug::tracing());
    });
}

TEST_P(flight_recorder, shows_tasks_that_are_joined_in_place) {
    run([] {
        mpg::debug::start_trace();
        for (int i = 0; i < 100; ++i) mpg::spawn([] { mpg::yield(); }).join();
        mpg::debug::stop_trace();
        std::ostringstream os;
        mpg::debug::write_trace(os);
        const std::string text = os.str();
        std::size_t ended = 0, joins = 0;
        for (std::size_t at = 0; (at = text.find("\"ended by\":\"end\"", at)) != std::string::npos; ++at) ++ended;
        for (std::size_t at = 0; (at = text.find("\"ended by\":\"join\"", at)) != std::string::npos; ++at) ++joins;
        EXPECT_EQ(ended, 100u);
        EXPECT_LE(joins, 100u);
    });
}

TEST_P(flight_recorder, writes_what_go_tool_trace_reads) {
    run([this] {
        mpg::debug::start_trace();
        mpg::chan<int> c;
        mpg::mutex m;
        mpg::wait_group g;
        m.lock();
        for (int i = 0; i < 3; ++i)
            g.go([&] { std::lock_guard hold(m); });
        g.go([&] {
            for (int i = 0; i < 100; ++i) c.send(i);
            c.close();
        });
        g.go([&] {
            for (int v : c) (void)v;
        });
        g.go([] { mpg::sleep_for(1ms); });
        g.go([] { mpg::blocking([] { ::usleep(1000); }); });
        g.go([] {
            for (int i = 0; i < 10; ++i) mpg::yield();
        });
        mpg::sleep_for(1ms);
        m.unlock();
        g.wait();
        wait_until_alone();
        mpg::debug::stop_trace();
        const std::string trace = go_trace();
        mpg::blocking([&] {
            std::string all;
            auto n = events_in(trace, &all);
            EXPECT_EQ(n["GoCreate"], 1 + 8) << all; // this one is listed
            EXPECT_EQ(n["GoEnd"], 8) << all;
            EXPECT_EQ(n["GoBlockSend"] + n["GoBlockRecv"] >= 50, true) << all;
            EXPECT_EQ(n["GoSleep"] >= 2, true) << all;
            EXPECT_GE(n["GoBlockSync"], 3) << all; // the mutex, and maybe the wait_group
            EXPECT_EQ(n["GoSysCall"], n["GoSysBlock"]) << all;
            EXPECT_GE(n["GoSysCall"], 1) << all;
            EXPECT_EQ(n["GoStart"], n["GoEnd"] + n["GoBlockSend"] + n["GoBlockRecv"] + n["GoSleep"] + n["GoBlockSync"] + n["GoBlockSelect"] + n["GoBlock"] +
                                        n["GoSysBlock"] + n["GoSched"] + n["GoPreempt"]) << all;
            if (procs() != 2) return; // they take their time
            const std::string sync = profile_of(trace, "sync");
            EXPECT_NE(sync.find("chan "), std::string::npos) << sync;
            EXPECT_NE(sync.find("mutex"), std::string::npos) << sync;
            EXPECT_NE(sync.find("writes_what_go_tool_trace_reads"), std::string::npos) << sync;
            EXPECT_NE(profile_of(trace, "sched").find("writes_what_go_tool_trace_reads"), std::string::npos);
            EXPECT_NE(profile_of(trace, "syscall").find("blocking"), std::string::npos);
            EXPECT_EQ(profile_of(trace, "net").find("io "), std::string::npos);
        });
    });
}

TEST_P(flight_recorder, tells_go_tool_trace_when_nobody_runs) {
    run([this] {
        mpg::debug::start_trace();
        for (int i = 0; i < 5; ++i) mpg::sleep_for(3ms);
        mpg::debug::stop_trace();
        const std::string trace = go_trace();
        mpg::blocking([&] {
            std::string all;
            auto n = events_in(trace, &all);
            EXPECT_GE(n["ProcStop"], static_cast<int>(procs()) + 4) << all; // one for each in the end
            EXPECT_EQ(n["ProcStart"], n["ProcStop"]) << all;
        });
    });
}

TEST_P(flight_recorder, begins_anywhere_for_go_tool_trace) {
    run([] {
        std::atomic<bool> enough{false};
        mpg::wait_group g;
        mpg::chan<int> c, never;
        g.go([&] { // there before, and never heard of
            for (int v : never) (void)v;
        });
        for (int i = 0; i < 4; ++i)
            g.go([&] {
                for (int k = 0; !enough; ++k) {
                    if (k % 3 == 0) mpg::yield();
                    mpg::select(mpg::on_send(c, k), mpg::on_recv(c), mpg::otherwise([] { mpg::yield(); }));
                    if (k % 64 == 0) mpg::blocking([] {});
                    if (k % 50 == 0) mpg::spawn([] { mpg::yield(); }).join();
                }
            });
        mpg::debug::start_trace(256);
        for (int i = 0; i < 2; ++i) {
            mpg::sleep_for(2ms);
            const std::string trace = go_trace();
            mpg::blocking([&] {
                std::string all;
                auto n = events_in(trace, &all);
                EXPECT_GE(n["GoCreate"], 6) << all;
                EXPECT_GE(n["GoWaiting"] + n["GoBlockRecv"], 1) << all; // it may come to its wait late
                EXPECT_GE(n["GoStart"], 1) << all;
            });
        }
        enough = true;
        never.close();
        g.wait();
        mpg::debug::stop_trace();
    });
}

/// What a program leaves behind that ends of a fatal error: the trace in a file of that name, and what it says.
std::pair<std::string, std::string> last_words(const char* ending, void (*main)()) {
    const kept file(ending, "");
    const auto child = mpg::test::run_in_child([&] {
        mpg::debug::trace_at_fatal_error(file.path);
        mpg::run([&] {
            mpg::debug::start_trace();
            main();
        });
    });
    EXPECT_NE(child.err.find("trace: " + file.path + "\n"), std::string::npos) << child;
    std::ostringstream text;
    text << std::ifstream(file.path, std::ios::binary).rdbuf();
    return {text.str(), child.err};
}

TEST(flight_recorders, are_read_after_a_deadlock) {
    auto main = [] {
        mpg::go([] { mpg::yield(); });
        mpg::chan<int>().recv();
    };
    auto [trace, said] = last_words(".last", main);
    EXPECT_EQ(said.find("fatal error: all tasks are asleep - deadlock!"), 0u) << said;
    auto n = events_in(trace);
    EXPECT_EQ(n["GoCreate"], 2);
    EXPECT_EQ(n["GoBlockRecv"], 1);
    EXPECT_EQ(n["GoEnd"], 1);
    const std::string json = last_words(".json", main).first;
    EXPECT_EQ(json.find("{\"traceEvents\":["), 0u) << json;
    EXPECT_NE(json.find("\"ended by\":\"end\""), std::string::npos) << json;
}

TEST(flight_recorders, are_read_after_an_exception) {
    auto [trace, said] = last_words(".last", [] {
        mpg::go([] { throw std::runtime_error("so it goes"); });
        mpg::select();
    });
    EXPECT_NE(said.find("so it goes"), std::string::npos) << said;
    EXPECT_GE(events_in(trace)["GoStart"], 2);
}

TEST(flight_recorders, are_read_after_too_many_threads) {
    const kept file(".last", "");
    const auto child = mpg::test::run_in_child([&] {
        mpg::debug::trace_at_fatal_error(file.path);
        mpg::options o;
        o.max_threads = 8;
        mpg::run(o, [] {
            mpg::debug::start_trace();
            for (int i = 0; i < 20; ++i) mpg::go([] { mpg::blocking([] { ::pause(); }); });
            mpg::select();
        });
    });
    EXPECT_EQ(child.exit_code, 2) << child;
    EXPECT_NE(child.err.find("fatal error: thread limit of 8 reached"), std::string::npos) << child;
    EXPECT_NE(child.err.find("trace: " + file.path + "\n"), std::string::npos) << child;
    std::ostringstream text;
    text << std::ifstream(file.path, std::ios::binary).rdbuf();
    EXPECT_GE(events_in(text.str())["GoSysBlock"], 1);
}

TEST(flight_recorders, of_several_runtimes_are_one_trace) {
    mpg::runtime a({.procs = 1}), b({.procs = 2});
    auto busy = [] {
        for (int i = 0; i < 10; ++i) mpg::spawn([] { mpg::yield(); }).join();
        wait_until_alone();
    };
    mpg::debug::start_trace();
    a.run(busy);
    b.run(busy);
    mpg::debug::stop_trace();
    std::string all;
    auto n = events_in(go_trace(), &all);
    EXPECT_EQ(n["GoCreate"], 22) << all;
    EXPECT_GE(n["GoEnd"], 20) << all; // and the two first ones, perhaps
    EXPECT_GE(n["GoUnblock"] + n["GoSched"], 10) << all;
    for (const char* p : {"ProcStart p=0 ", "ProcStart p=1 ", "ProcStart p=2 "})
        EXPECT_NE(all.find(p), std::string::npos) << p << all;
    EXPECT_EQ(all.find("ProcStart p=3 "), std::string::npos) << all;
}

TEST(flight_recorders, that_were_never_on_are_an_empty_trace) {
    EXPECT_EQ(events_in(go_trace()).count("GoStart"), 0u);
    mpg::test::run_with_procs(2, [] { EXPECT_EQ(events_in(go_trace()).count("GoStart"), 0u); });
}

TEST_P(flight_recorder, keeps_the_last_events_while_tasks_run) {
    run([this] {
        mpg::debug::start_trace(64);
        std::atomic<bool> enough{false};
        mpg::wait_group g;
        for (int i = 0; i < 4; ++i)
            g.go([&] {
                while (!enough) mpg::yield();
            });
        for (int i = 0; i < 5; ++i) {
            std::ostringstream os;
            mpg::debug::write_trace(os);
            const std::string text = os.str();
            std::size_t slices = 0;
            for (std::size_t at = 0; (at = text.find("\"ph\":\"X\"", at)) != std::string::npos; ++at) ++slices;
            EXPECT_LE(slices, 64 * (procs() + 1)); // of each P, and of those without
        }
        enough = true;
        g.wait();
        mpg::debug::stop_trace();
    });
}

#if defined(STAP_PROBE3)
TEST(probes, stand_in_the_program_as_notes) {
    int rc = -1;
    std::string notes = shell("readelf -nW /proc/" + std::to_string(::getpid()) + "/exe", &rc);
    EXPECT_EQ(rc, 0);
    EXPECT_NE(notes.find("Provider: mpg"), std::string::npos);
    for (const char* name : {"task__create", "task__start", "task__block", "task__ready", "task__end", "steal", "handoff"})
        EXPECT_NE(notes.find(std::string("Name: ") + name + "\n"), std::string::npos) << name;
    if (!mpg::base::asan && !mpg::base::tsan) { // under sanitizers nobody is preempted
        EXPECT_NE(notes.find("Name: preempt\n"), std::string::npos);
    }
}
#endif

} // namespace
