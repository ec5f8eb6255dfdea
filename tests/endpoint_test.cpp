#include "support.hpp"

#include <mpg/net/address.hpp>

#include <set>
#include <unordered_set>

using mpg::net::address_errc;
using mpg::net::endpoint;

TEST(endpoint, prints_what_it_parses) {
    for (std::string text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[::]:8080",
                             "[2001:db8::1]:443", "[fe80::1%lo]:1"}) {
        const auto e = endpoint::parse(text);
        ASSERT_TRUE(e) << text << ": " << e.error().message();
        EXPECT_EQ(e->to_string(), text);
    }
}

TEST(endpoint, refuses_what_is_no_address) {
    const std::pair<std::string_view, address_errc> cases[] = {
        {"", address_errc::missing_port},
        {"127.0.0.1", address_errc::missing_port},
        {"[::1]", address_errc::missing_port},
        {"127.0.0.1:", address_errc::bad_port},
        {"127.0.0.1:x", address_errc::bad_port},
        {"127.0.0.1:-1", address_errc::bad_port},
        {"127.0.0.1:+1", address_errc::bad_port},
        {"127.0.0.1: 1", address_errc::bad_port},
        {"127.0.0.1:65536", address_errc::bad_port},
        {"127.0.0.1:123456789012", address_errc::bad_port},
        {"::1:80", address_errc::bad_brackets},
        {"[::1:80", address_errc::bad_brackets},
        {"::1]:80", address_errc::bad_brackets},
        {"[127.0.0.1]:80", address_errc::bad_brackets},
        {"[[::1]]:80", address_errc::bad_brackets},
        {":80", address_errc::bad_host},
        {"localhost:80", address_errc::bad_host},
        {"256.0.0.1:80", address_errc::bad_host},
        {"1.2.3:80", address_errc::bad_host},
        {"[::g]:80", address_errc::bad_host},
        {"[fe80::1%nosuchinterface]:80", address_errc::bad_host},
        {std::string_view("127.0.0.1\0:80", 13), address_errc::bad_host},
    };
    for (const auto& [text, why] : cases) {
        const auto e = endpoint::parse(text);
        ASSERT_FALSE(e) << text;
        EXPECT_EQ(e.error(), why) << text << ": " << e.error().message();
        EXPECT_EQ(e.error(), std::errc::invalid_argument) << text;
        EXPECT_FALSE(e.error().message().empty());
    }
    EXPECT_FALSE(endpoint::parse(std::string(100'000, '1') + ":80"));
}

TEST(endpoint, has_port_and_family) {
    EXPECT_EQ(endpoint().port(), 0);
    EXPECT_TRUE(endpoint().empty());
    EXPECT_EQ(endpoint().to_string(), "");
    EXPECT_EQ(endpoint::parse("1.2.3.4:5")->port(), 5);
    EXPECT_EQ(endpoint::parse("1.2.3.4:5")->family(), AF_INET);
    EXPECT_EQ(endpoint::parse("[::1]:6")->port(), 6);
    EXPECT_EQ(endpoint::parse("[::1]:6")->family(), AF_INET6);
    EXPECT_EQ(endpoint::parse("[::1]:6")->with_port(7).to_string(), "[::1]:7");
}

TEST(endpoint, mapped_ipv4_is_ipv4) {
    const auto plain = *endpoint::parse("1.2.3.4:5");
    const auto mapped = plain.mapped();
    EXPECT_EQ(endpoint(reinterpret_cast<const sockaddr*>(&mapped), sizeof mapped), plain);
    EXPECT_EQ(*endpoint::parse("[::ffff:1.2.3.4]:5"), plain);
}

TEST(endpoint, orders_by_family_address_and_port) {
    const auto at = [](const char* text) { return *endpoint::parse(text); };
    EXPECT_EQ(at("1.2.3.4:5"), at("1.2.3.4:5"));
    EXPECT_NE(at("1.2.3.4:5"), at("1.2.3.4:6"));
    EXPECT_LT(at("1.2.3.4:6"), at("1.2.3.5:5"));
    EXPECT_LT(at("1.2.3.4:255"), at("1.2.3.4:256"));
    EXPECT_LT(at("127.0.0.1:1"), at("128.0.0.1:1"));
    EXPECT_LT(at("1.2.3.4:5"), at("[::1]:5"));
    EXPECT_LT(endpoint(), at("1.2.3.4:5"));
    std::set<endpoint> ordered{at("[::1]:1"), at("1.2.3.4:5"), at("1.2.3.4:5")};
    EXPECT_EQ(ordered.size(), 2u);
    std::unordered_set<endpoint> hashed{at("[::1]:1"), at("1.2.3.4:5"), at("1.2.3.4:5"), endpoint()};
    EXPECT_EQ(hashed.size(), 3u);
}

TEST(endpoint, of_a_path) {
    EXPECT_EQ(endpoint::from_path("/tmp/x")->to_string(), "/tmp/x");
    EXPECT_EQ(endpoint::from_path("@x")->to_string(), "@x");
    EXPECT_NE(*endpoint::from_path("@x"), *endpoint::from_path("x"));
    EXPECT_EQ(endpoint::from_path("/tmp/x")->port(), 0);
    EXPECT_EQ(endpoint::from_path("").error(), std::errc::invalid_argument);
    EXPECT_EQ(endpoint::from_path(std::string_view("a\0b", 3)).error(), std::errc::invalid_argument);
    EXPECT_EQ(endpoint::from_path(std::string(108, 'x')).error(), std::errc::filename_too_long);
    EXPECT_EQ(endpoint::from_path(std::string(107, 'x'))->to_string(), std::string(107, 'x'));
}
