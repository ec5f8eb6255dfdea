// What a user may well include first: it defines macros with common names, BLOCK_SIZE among them.
#include <linux/fs.h>

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
