// Patterns and routing: who wins, what conflicts, what a 405 allows. After the documentation of Go 1.22's
// ServeMux.
#include "support.hpp"

#include <mpg/base/random.hpp>
#include <mpg/http/router.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using mpg::http::detail::path_values;
using mpg::http::detail::pattern;
using mpg::http::detail::relation;
using router = mpg::http::detail::router<int>;

std::string winner(const router& r, std::string_view method, std::string_view path,
                   std::string_view host = "h") {
    path_values values;
    const auto* found = r.find(method, host, path, values);
    std::string s = found ? found->what.text : "";
    for (std::string_view v : values) (s += '|') += v;
    return s;
}

router make(std::initializer_list<const char*> patterns) {
    router r;
    for (const char* p : patterns) r.add(p, 0);
    return r;
}

TEST(http_pattern, malformed_ones_are_refused) {
    for (const char* bad : {"",       "GET",        "GET ",          "x",     "G(T /", "/{",     "/}",
                            "/{}",    "/{a",        "/a}",           "/x{a}", "/{a}x", "/{a b}", "/{1a}",
                            "/{$}/x", "/{a...}/x",  "/{a}/{a}",      "//",    "/a//b", "/./b",   "/a/..",
                            "/%zz",   "ex{a}mple/", "GET exa mple/", "/{...}"}) {
        EXPECT_THROW(pattern::parse(bad), std::invalid_argument) << bad;
    }
}

TEST(http_pattern, the_reason_is_said) {
    try {
        pattern::parse("/{a}/{a}");
        FAIL();
    } catch (const std::invalid_argument& e) {
        EXPECT_NE(std::string(e.what()).find("/{a}/{a}"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("same name"), std::string::npos) << e.what();
    }
}

TEST(http_pattern, relations) {
    struct {
        const char *a, *b;
        relation r;
    } cases[] = {
        {"/a", "/a", relation::equal},
        {"/a", "/b", relation::disjoint},
        {"/a", "/a/", relation::disjoint},
        {"/", "/a", relation::more_general},
        {"/a/{$}", "/a/", relation::more_specific},
        {"/a/{$}", "/a/{x}", relation::disjoint},
        {"/a/{x}", "/a/{y}", relation::equal},
        {"/a/{x}", "/a/b", relation::more_general},
        {"/a/{x...}", "/a/", relation::equal},
        {"/{x}/b", "/a/{y}", relation::overlapping},
        {"/a/{x}/", "/a/b/c", relation::more_general},
        {"/{x}/b/", "/a/", relation::overlapping},
        {"GET /a", "/a", relation::more_specific},
        {"GET /a", "POST /a", relation::disjoint},
        {"GET /a", "HEAD /a", relation::more_general},
        {"GET /{x}", "/a", relation::overlapping},
        {"GET /a", "HEAD /{x}", relation::overlapping},
        {"h/", "/a", relation::more_specific},
        {"h/a", "g/a", relation::disjoint},
        {"h/{x}", "h/a", relation::more_general},
    };
    for (const auto& c : cases) {
        const pattern a = pattern::parse(c.a), b = pattern::parse(c.b);
        EXPECT_EQ(a.compare(b), c.r) << c.a << " : " << c.b;
        const relation back = c.r == relation::more_general    ? relation::more_specific
                              : c.r == relation::more_specific ? relation::more_general
                                                               : c.r;
        EXPECT_EQ(b.compare(a), back) << c.b << " : " << c.a;
    }
}

TEST(http_router, conflicts_are_refused_and_change_nothing) {
    router r = make({"/a/{x}", "GET /b"});
    EXPECT_THROW(r.add("/a/{y}", 0), std::invalid_argument);
    EXPECT_THROW(r.add("/{x}/b", 0), std::invalid_argument);
    EXPECT_THROW(r.add("GET /b", 0), std::invalid_argument);
    EXPECT_EQ(winner(r, "GET", "/c/b"), "");
    r.add("/b", 0);
    EXPECT_THROW(r.add("GET /{x}", 0), std::invalid_argument)
        << "it is more specific in method, less in path";
    EXPECT_EQ(winner(r, "POST", "/b"), "/b");
    EXPECT_EQ(winner(r, "GET", "/b"), "GET /b");
}

TEST(http_router, the_most_specific_wins) {
    const router r = make({"/", "/a", "/a/", "/a/b", "/a/{x}", "/a/{x}/c", "/f/b/{y...}", "/e/{$}",
                           "POST /a/b", "/a/{x}/{rest...}", "host.example/a", "/enc%20oded/x"});
    EXPECT_EQ(winner(r, "GET", "/"), "/|");
    EXPECT_EQ(winner(r, "GET", "/zz/y"), "/|zz/y");
    EXPECT_EQ(winner(r, "GET", "/a"), "/a");
    EXPECT_EQ(winner(r, "GET", "/a", "host.example"), "host.example/a");
    EXPECT_EQ(winner(r, "GET", "/a/"), "/a/|");
    EXPECT_EQ(winner(r, "GET", "/a/b"), "/a/b");
    EXPECT_EQ(winner(r, "POST", "/a/b"), "POST /a/b");
    EXPECT_EQ(winner(r, "GET", "/a/q"), "/a/{x}|q");
    EXPECT_EQ(winner(r, "GET", "/a/q/c"), "/a/{x}/c|q");
    EXPECT_EQ(winner(r, "GET", "/a/q/d/e"), "/a/{x}/{rest...}|q|d/e");
    EXPECT_EQ(winner(r, "GET", "/f/b/"), "/f/b/{y...}|");
    EXPECT_EQ(winner(r, "GET", "/f/b/1/2"), "/f/b/{y...}|1/2");
    EXPECT_EQ(winner(r, "GET", "/e/"), "/e/{$}");
    EXPECT_EQ(winner(r, "GET", "/e/f"), "/|e/f");
    EXPECT_EQ(winner(r, "GET", "/%61/b"), "/a/b") << "compared after unescaping";
    EXPECT_EQ(winner(r, "GET", "/a%2Fb"), "/|a%2Fb") << "but an escaped slash does not split";
    EXPECT_EQ(winner(r, "GET", "/enc%20oded/x"), "/enc%20oded/x");
    EXPECT_EQ(winner(r, "GET", "*"), "");
    EXPECT_EQ(winner(r, "GET", ""), "");
}

TEST(http_router, a_dead_end_is_left_again) {
    const router r = make({"/a/b/c", "/a/{x}/d", "/{p}/b/e", "GET /m/n", "POST /m/{x}"});
    EXPECT_EQ(winner(r, "GET", "/a/b/d"), "/a/{x}/d|b");
    EXPECT_EQ(winner(r, "GET", "/a/b/e"), "/{p}/b/e|a");
    EXPECT_EQ(winner(r, "GET", "/a/b/f"), "");
    EXPECT_EQ(winner(r, "POST", "/m/n"), "POST /m/{x}|n") << "the literal is there, but not for POST";
}

TEST(http_router, get_serves_head) {
    const router r = make({"GET /a", "HEAD /b", "GET /b", "/c", "POST /d"});
    EXPECT_EQ(winner(r, "HEAD", "/a"), "GET /a");
    EXPECT_EQ(winner(r, "HEAD", "/b"), "HEAD /b");
    EXPECT_EQ(winner(r, "HEAD", "/c"), "/c");
    EXPECT_EQ(winner(r, "HEAD", "/d"), "");
    EXPECT_EQ(winner(r, "get", "/a"), "") << "methods are case-sensitive";
}

TEST(http_router, allowed_methods) {
    const router r = make({"GET /a", "POST /a", "DELETE /{x}", "PUT /b"});
    EXPECT_EQ(r.allowed("h", "/a"), "DELETE, GET, HEAD, POST");
    EXPECT_EQ(r.allowed("h", "/b"), "DELETE, PUT");
    EXPECT_EQ(r.allowed("h", "/a/c"), "");
    EXPECT_EQ(make({"POST /tree/"}).allowed("h", "/tree"), "POST") << "a POST would be sent there";
}

TEST(http_router, a_subtree_takes_its_root_without_the_slash) {
    const router r = make({"/tree/", "GET /other/{x}/", "/all/{rest...}", "/{$}"});
    EXPECT_TRUE(r.has_subtree("GET", "h", "/tree"));
    EXPECT_TRUE(r.has_subtree("GET", "h", "/other/1"));
    EXPECT_FALSE(r.has_subtree("POST", "h", "/other/1"));
    EXPECT_FALSE(r.has_subtree("GET", "h", "/tree/below"));
    EXPECT_FALSE(r.has_subtree("GET", "h", "/nothing"));
}

TEST(http_router, a_wildcard_for_all_does_not_take_the_root_of_a_subtree) {
    const router r = make({"/", "/tree/", "GET /{x}", "/all/{rest...}", "/end/{$}"});
    auto goes = [&](std::string_view method, std::string_view path) {
        path_values values;
        return r.belongs_to_subtree(method, "h", path, r.find(method, "h", path, values));
    };
    EXPECT_TRUE(goes("POST", "/tree"));
    EXPECT_TRUE(goes("POST", "/all"));
    EXPECT_TRUE(goes("POST", "/end"));
    EXPECT_FALSE(goes("GET", "/tree")) << "\"GET /{x}\" is as long as that";
    EXPECT_FALSE(goes("POST", "/tree/"));
    EXPECT_FALSE(goes("POST", "/tree/a"));
    EXPECT_FALSE(goes("POST", "/none"));
    EXPECT_FALSE(goes("POST", "/"));
    EXPECT_FALSE(goes("OPTIONS", "*"));
}

/// Of all patterns and paths over two letters: the tree finds what the definition says, and conflicts are those of the definition.
TEST(http_router, does_what_the_definition_says) {
    mpg::base::random random(mpg::test::seed());
    std::vector<std::string> paths{"/"};
    for (std::size_t i = 0; i != paths.size() && paths.size() < 400; ++i) {
        const std::string p = paths[i];
        if (std::count(p.begin(), p.end(), '/') > 3) continue;
        const std::string base = p.back() == '/' ? p : p + "/";
        for (const char* s : {"a", "b"}) paths.push_back(base + s);
        if (p.back() != '/') paths.push_back(p + "/");
    }
    const auto matches = [](const pattern& p, std::string_view method, std::string_view path) {
        if (!p.method.empty() && p.method != method && !(p.method == "GET" && method == "HEAD")) return false;
        std::vector<std::string> have;
        for (std::size_t at = 1;; ++at) {
            const std::size_t end = std::min(path.find('/', at), path.size());
            have.emplace_back(path.substr(at, end - at));
            if ((at = end) == path.size()) break;
        }
        for (std::size_t i = 0; i != p.segments.size(); ++i) {
            if (i == have.size()) return false;
            using kind = mpg::http::detail::segment::kind;
            if (p.segments[i].what == kind::rest) return true;
            if (p.segments[i].what == kind::literal ? p.segments[i].text != have[i] : have[i].empty()) return false;
        }
        return have.size() == p.segments.size();
    };
    constexpr const char* methods[] = {"GET", "HEAD", "POST"};
    std::size_t added = 0, refused = 0, found = 0;
    for (int round = 0; round != 200; ++round) {
        router r;
        std::vector<pattern> all;
        for (int i = 0; i != 6; ++i) {
            constexpr const char* beginnings[] = {"", "", "GET ", "POST ", "HEAD "};
            std::string text = beginnings[random.below(5)];
            const unsigned depth = random.below(3);
            for (unsigned k = 0; k != depth; ++k)
                text += random.below(3) == 0 ? "/{x" + std::to_string(k) + "}" : random.below(2) ? "/a" : "/b";
            constexpr const char* ends[] = {"/a", "/b", "/{y}", "/{$}", "/", "/{rest...}"};
            text += ends[random.below(6)];
            const pattern fresh = pattern::parse(text);
            // Two conflict when both take some request, and neither takes all that the other does.
            bool conflict = false;
            for (const pattern& other : all) {
                bool both = false, only_fresh = false, only_other = false;
                for (const char* m : methods)
                    for (const std::string& path : paths) {
                        const bool f = matches(fresh, m, path), o = matches(other, m, path);
                        both = both || (f && o);
                        only_fresh = only_fresh || (f && !o);
                        only_other = only_other || (o && !f);
                    }
                conflict = conflict || (both && only_fresh == only_other);
            }
            try {
                r.add(text, 0);
                ASSERT_FALSE(conflict) << text;
                all.push_back(fresh);
                ++added;
            } catch (const std::invalid_argument& e) {
                ASSERT_TRUE(conflict) << e.what();
                ++refused;
            }
        }
        for (const char* m : methods)
            for (const std::string& path : paths) {
                const pattern* best = nullptr; // of those that match, the one that is more specific than all others
                for (const pattern& p : all)
                    if (matches(p, m, path) && (!best || p.compare(*best) == relation::more_specific)) best = &p;
                path_values values;
                const auto* got = r.find(m, "h", path, values);
                ASSERT_EQ(got ? got->what.text : "", best ? best->text : "") << m << ' ' << path;
                found += got != nullptr;
            }
    }
    EXPECT_GT(added, 200u);
    EXPECT_GT(refused, 50u);
    EXPECT_GT(found, 1000u);
}

TEST(http_router, a_copy_is_independent) {
    router a = make({"/a"});
    router b = a;
    b.add("/b", 0);
    EXPECT_EQ(winner(a, "GET", "/b"), "");
    EXPECT_EQ(winner(b, "GET", "/b"), "/b");
    EXPECT_EQ(winner(b, "GET", "/a"), "/a");
}

TEST(http_router, many_slashes_do_not_explode) {
    router r;
    // Literal and wildcard at each depth: a naive search would try 2^20 ways.
    std::string literal, wild;
    for (int i = 0; i < 20; ++i) {
        literal += "/a";
        wild += "/{x" + std::to_string(i) + "}";
    }
    r.add(literal + "/end", 0);
    r.add(wild + "/other", 0);
    EXPECT_EQ(winner(r, "GET", literal + "/none"), "");
    std::string values;
    for (int i = 0; i < 20; ++i) values += "|a";
    EXPECT_EQ(winner(r, "GET", literal + "/other"), wild + "/other" + values);
}

} // namespace
