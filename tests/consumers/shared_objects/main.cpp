// Exit status 0 when the executable and three shared objects agree on the running strand, task and runtime, pass values
// and exceptions to each other, and stay in agreement while tasks move between threads.
#include "part.hpp"

#include <mpg/mpg.hpp>
#include <mpg/sched/wait.hpp>

#include <atomic>
#include <dlfcn.h>
#include <iostream>
#include <thread>
#include <vector>

namespace {

std::atomic<int> failures{0};

void check(bool ok, const char* what) {
    if (ok) return;
    ++failures;
    std::cerr << "failed: " << what << '\n';
}

std::vector<const part*> parts;
mpg::task_local<int> local;

void agree(const char* where) {
    for (const part* p : parts) {
        check(p->strand() == mpg::sched::current(), where);
        check(p->runtime() == mpg::runtime::current(), where);
    }
}

void in_a_runtime() {
    // Every task calls through the images in turn and yields in their code: with several threads it moves.
    mpg::wait_group all;
    for (int i = 0; i < 64; ++i)
        all.go([] {
            for (int round = 0; round < 200; ++round) {
                local.set(round);
                const part* p = parts[static_cast<std::size_t>(round) % parts.size()];
                const auto id = mpg::this_task::id();
                p->yield();
                check(p->task_id() == id && mpg::this_task::id() == id, "the task keeps its identity");
                check(p->read(local) == round, "the task keeps its locals");
                agree("in a task");
            }
        });
    all.wait();

    // A chain of channels through all images.
    mpg::chan<int> first(4);
    mpg::recv_chan<int> last = first;
    for (const part* p : parts) {
        mpg::chan<int> next;
        p->increment(last, next);
        last = next;
    }
    mpg::go([first] {
        for (int i = 0; i < 1000; ++i) first.send(i);
        first.close();
    });
    int expected = static_cast<int>(parts.size());
    for (int n : last) check(n == expected++, "values in order through the chain");
    check(expected == 1000 + static_cast<int>(parts.size()), "all values through the chain");

    for (const part* p : parts) {
        bool caught = false;
        try {
            p->send_on_closed();
        } catch (const mpg::channel_closed&) {
            caught = true;
        }
        check(caught, "an exception from a shared object is caught by its type");
    }
}

} // namespace

int main() {
    void* plugin = ::dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) {
        std::cerr << ::dlerror() << '\n';
        return 1;
    }
    auto plugin_part = reinterpret_cast<const part* (*)()>(::dlsym(plugin, "plugin_part"));
    parts = {left_part(), right_part(), plugin_part()};

    agree("on the main thread");
    std::thread([] { agree("on another thread"); }).join();
    mpg::options o;
    o.procs = 4;
    mpg::run(o, in_a_runtime);
    agree("after the runtime has ended");
    if (failures == 0) std::cout << "one runtime in four images\n";
    return failures != 0;
}
