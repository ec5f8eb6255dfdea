#include <mpg/io/expected.hpp>
#include <mpg/io/result.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <type_traits>

using mpg::errc;
using mpg::result;

#if defined(__cpp_lib_expected) && __cpp_lib_expected >= 202202L
static_assert(std::is_same_v<result<int>, std::expected<int, std::error_code>>);
#else
static_assert(std::is_same_v<result<int>, mpg::io::expected<int, std::error_code>>);
#endif

namespace {
// Our own type, also where result is the standard's.
template <class T> using own = mpg::io::expected<T, std::error_code>;
using failure = mpg::io::unexpected<std::error_code>;

own<std::unique_ptr<int>> make(bool ok) {
    if (ok) return std::make_unique<int>(3);
    return failure(errc::closed);
}
own<void> check(bool ok) {
    if (!ok) return failure(errc::cancelled);
    return {};
}
} // namespace

TEST(result, holds_a_value_or_an_error) {
    result<std::size_t> n = std::size_t{5};
    EXPECT_TRUE(n.has_value());
    EXPECT_TRUE(n);
    EXPECT_EQ(*n, 5u);
    EXPECT_EQ(n.value(), 5u);
    n = mpg::unexpected(make_error_code(errc::closed));
    EXPECT_FALSE(n);
    EXPECT_EQ(n.error(), errc::closed);
    EXPECT_EQ(n.value_or(7u), 7u);
    EXPECT_ANY_THROW((void)n.value());
}

TEST(result, of_void) {
    EXPECT_TRUE(check(true));
    EXPECT_EQ(check(false).error(), errc::cancelled);
    EXPECT_THROW(check(false).value(), mpg::io::bad_expected_access<std::error_code>);
    EXPECT_EQ(check(true).and_then([] { return check(false); }).error(), errc::cancelled);
    EXPECT_EQ(check(true).transform([] { return 4; }), 4);
    EXPECT_TRUE(check(false).or_else([](std::error_code) { return check(true); }));
    EXPECT_EQ(check(false).transform_error([](std::error_code e) { return e.message(); }).error(),
              "cancelled");
}

TEST(result, moves_a_value_out) {
    std::unique_ptr<int> p = *make(true);
    EXPECT_EQ(*p, 3);
    auto r = make(true);
    own<std::unique_ptr<int>> q = std::move(r);
    EXPECT_EQ(**q, 3);
    q = make(false);
    EXPECT_EQ(q.error(), errc::closed);
    q = std::make_unique<int>(4);
    EXPECT_EQ(**q, 4);
    swap(q, r);
    EXPECT_EQ(**r, 4);
    r.emplace(std::make_unique<int>(5));
    EXPECT_EQ(**r, 5);
}

TEST(result, has_the_monadic_members) {
    EXPECT_EQ(make(true).transform([](std::unique_ptr<int> p) { return *p; }), 3);
    EXPECT_EQ(make(true).and_then([](std::unique_ptr<int>&& p) -> own<int> { return *p + 1; }), 4);
    EXPECT_EQ(make(false).and_then([](auto&&) -> own<int> { return 1; }).error(), errc::closed);
    EXPECT_EQ(make(false).transform([](auto&&) {}).error(), errc::closed);
    EXPECT_EQ(**make(false).or_else([](std::error_code) { return make(true); }), 3);
    EXPECT_EQ(make(false).transform_error([](std::error_code e) { return e.message(); }).error(), "closed");
    EXPECT_EQ(make(false).error_or(make_error_code(errc::cancelled)), errc::closed);
}

TEST(result, value_throws_what_tells_the_error) {
    try {
        (void)make(false).value();
        FAIL();
    } catch (const mpg::io::bad_expected_access<std::error_code>& e) {
        EXPECT_STREQ(e.what(), "closed");
        EXPECT_EQ(e.error(), errc::closed);
    }
}

TEST(result, compares) {
    EXPECT_EQ(own<int>(3), own<int>(3));
    EXPECT_NE(own<int>(3), own<int>(4));
    EXPECT_NE(own<int>(3), own<int>(failure(errc::closed)));
    EXPECT_EQ(own<int>(failure(errc::closed)), failure(make_error_code(errc::closed)));
}

TEST(error_code, tells_what_and_compares_with_conditions) {
    EXPECT_EQ(make_error_code(errc::deadline_exceeded), std::errc::timed_out);
    EXPECT_EQ(make_error_code(errc::cancelled), std::errc::operation_canceled);
    EXPECT_EQ(make_error_code(errc::server_closed).message(), "server closed");
}
