#include "all_doors.hpp"

#include "other.hpp"

void produce(mpg::chan<int> c, int n) {
    mpg::go([c, n] {
        for (int i = 0; i < n; ++i) c.send(i);
        c.close();
    });
}

std::uint64_t task_seen_by_other_unit() { return mpg::this_task::id(); }
mpg::runtime* runtime_seen_by_other_unit() { return mpg::runtime::current(); }
