// One source for all three shared objects; PART is the name.
#include "part.hpp"

#include <mpg/sched/wait.hpp>

#define JOIN(a, b) a##b
#define NAME(a) JOIN(a, _part)

namespace {

constexpr part here{
    .strand = [] { return static_cast<const void*>(mpg::sched::current()); },
    .task_id = [] { return mpg::this_task::id(); },
    .runtime = [] { return mpg::runtime::current(); },
    .increment =
        [](mpg::recv_chan<int> in, mpg::send_chan<int> out) {
            mpg::go([in, out] {
                for (int n : in) {
                    mpg::yield();
                    out.send(n + 1);
                }
                out.close();
            });
        },
    .yield = [] { mpg::yield(); },
    .send_on_closed =
        [] {
            mpg::chan<int> c;
            c.close();
            c.send(1);
        },
    .read = [](mpg::task_local<int>& local) { return local.get(); },
};

} // namespace

extern "C" [[gnu::visibility("default")]] const part* NAME(PART)();
extern "C" const part* NAME(PART)() { return &here; }
