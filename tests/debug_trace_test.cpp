// The flight recorder, and the notes of the USDT probes.
// ctest: needs:python3 python3
// ctest: needs:readelf binutils
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace {

using namespace std::chrono_literals;

std::string shell(const std::string& command, int& rc) {
    std::string out;
    std::FILE* f = ::popen((command + " 2>&1").c_str(), "r");
    char piece[4096];
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, f)) > 0;) out.append(piece, n);
    int status = ::pclose(f);
    rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return out;
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
        // A task has ended a little later than it has said done.
        EXPECT_TRUE(mpg::test::eventually([] {
            const mpg::runtime_stats s = mpg::runtime::current()->stats();
            return s.tasks_runnable + s.tasks_running + s.tasks_waiting + s.tasks_blocking == 1;
        }));
        mpg::debug::stop_trace();
        EXPECT_FALSE(mpg::debug::tracing());
        std::ostringstream os;
        mpg::debug::write_trace(os);
        text = os.str();
    });
    const std::string file = "/tmp/mpg_trace_test." + std::to_string(::getpid()) + ".json";
    std::ofstream(file) << text;
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
' )py" + file, rc);
    EXPECT_EQ(rc, 0) << said;
    std::filesystem::remove(file);
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
    std::string notes = shell("readelf -nW /proc/" + std::to_string(::getpid()) + "/exe", rc);
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
