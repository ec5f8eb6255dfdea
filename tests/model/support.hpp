// What the model checker's tests share.
#pragma once

#include "model/explore.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace mpg::model {

using setup = void (*)(program&);

inline void expect_holds(setup s) {
    auto r = explore(s);
    EXPECT_FALSE(r.failed) << r.message;
    EXPECT_TRUE(r.complete) << "not all executions were tried";
    std::cout << r.executions << " executions\n";
}

/// A program with too many executions: as many as take a second or two, others in each run.
inline void expect_holds_at_random(setup s, std::uint64_t executions) {
    const char* given = std::getenv("MPG_TEST_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device{}();
    std::cout << "MPG_TEST_SEED=" << seed << std::endl;
    auto r = explore_some(s, executions, seed);
    EXPECT_FALSE(r.failed) << r.message;
}

/// Weakens every operation of a header of the library that the programs meet. Exactly those mutants may live that are listed here,
/// each with its reason: an order that is stronger than this program needs, or a failure that the checker cannot see.
inline void expect_survivors(std::string_view header, const std::vector<setup>& programs,
                             std::vector<std::string> expected) {
    std::vector<std::string> alive;
    std::vector<mutation> all_mutants;
    for (const setup& s : programs)
        for (const mutation& m : mutants(s, header))
            if (std::find(all_mutants.begin(), all_mutants.end(), m) == all_mutants.end()) all_mutants.push_back(m);
    for (const mutation& m : all_mutants)
        if (std::none_of(programs.begin(), programs.end(), [&](setup s) { return explore(s, m).failed; }))
            alive.push_back(to_string(m));
    std::sort(alive.begin(), alive.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(alive, expected) << [&] {
        std::string lines = "alive:";
        for (const auto& a : alive) lines += "\n\"" + a + "\",";
        return lines;
    }();
    std::cout << all_mutants.size() - alive.size() << " of " << all_mutants.size() << " mutants found\n";
}

} // namespace mpg::model
