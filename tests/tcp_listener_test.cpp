// Listening, accepting and connecting: addresses, options, and what goes wrong.
//
// ctest: no-vptr that check needs a pipe, and where no descriptor is left it reports what is not there
#include "io_support.hpp"

#include <array>
#include <fcntl.h>
#include <set>
#include <sys/resource.h>

using namespace mpg::test;
using mpg::errc;
using mpg::net::endpoint;
using mpg::net::tcp_listener;
using mpg::net::tcp_stream;

struct tcp_listening : with_pollers {};
MPG_TEST_IO(tcp_listening);

namespace {
bool have_ipv6() { return tcp_listener::bind("[::1]:0").has_value(); }

/// Takes all descriptors that are left, but for `but`.
struct descriptor_hog {
    explicit descriptor_hog(int but) {
        for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken.push_back(fd);
        for (int i = 0; i != but; ++i) {
            ::close(taken.back());
            taken.pop_back();
        }
    }
    ~descriptor_hog() {
        for (int fd : taken) ::close(fd);
    }
    std::vector<int> taken;
};
} // namespace

TEST_P(tcp_listening, port_zero_picks_one) {
    run([] {
        auto a = listen_local(), b = listen_local();
        EXPECT_NE(a.local_endpoint().port(), 0);
        EXPECT_NE(a.local_endpoint(), b.local_endpoint());
        EXPECT_EQ(a.local_endpoint().to_string().substr(0, 10), "127.0.0.1:");
    });
}

TEST_P(tcp_listening, without_a_host_takes_ipv4_and_ipv6) {
    run([] {
        auto l = tcp_listener::bind(":0");
        ASSERT_TRUE(l) << l.error().message();
        const auto port = std::to_string(l->local_endpoint().port());
        for (std::string host : {"127.0.0.1", "[::1]", "localhost", ""}) {
            if (host == "[::1]" && !have_ipv6()) continue;
            auto c = tcp_stream::connect(host + ":" + port);
            ASSERT_TRUE(c) << host << ": " << c.error().message();
            auto s = l->accept();
            ASSERT_TRUE(s) << s.error().message();
            EXPECT_EQ(s->remote_endpoint(), c->local_endpoint());
            EXPECT_EQ(s->local_endpoint(), c->remote_endpoint());
        }
    });
}

TEST_P(tcp_listening, refuses_bad_addresses) {
    run([] {
        for (std::string_view bad :
             {"", "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:http",
              "::1:80", "[::1", "[127.0.0.1]:1", "a b:1"}) {
            auto l = tcp_listener::bind(bad);
            ASSERT_FALSE(l) << bad;
            EXPECT_FALSE(l.error().message().empty());
            auto c = tcp_stream::connect(bad);
            ASSERT_FALSE(c) << bad;
        }
        EXPECT_EQ(tcp_listener::bind("127.0.0.1:99999").error(), std::errc::invalid_argument);
        EXPECT_EQ(tcp_listener::bind("192.0.2.1:0").error(), std::errc::address_not_available);
        EXPECT_EQ(tcp_listener::bind(endpoint()).error(), std::errc::address_family_not_supported);
    });
}

TEST_P(tcp_listening, a_port_in_use_is_reported) {
    run([] {
        auto l = listen_local();
        EXPECT_EQ(tcp_listener::bind(l.local_endpoint()).error(), std::errc::address_in_use);
        const auto at = l.local_endpoint();
        auto p = connect_local(l); // leaves a connection in TIME_WAIT
        p.server.close();
        p.client.close();
        l.close();
        auto again = tcp_listener::bind(at);
        EXPECT_TRUE(again) << again.error().message();
    });
}

TEST_P(tcp_listening, reuse_port_shares_a_port) {
    run([] {
        auto a = tcp_listener::bind("127.0.0.1:0", {.reuse_port = true});
        ASSERT_TRUE(a) << a.error().message();
        auto b = tcp_listener::bind(a->local_endpoint(), {.reuse_port = true});
        ASSERT_TRUE(b) << b.error().message();
        EXPECT_EQ(a->local_endpoint(), b->local_endpoint());
    });
}

TEST_P(tcp_listening, connect_to_nobody_is_refused) {
    run([] {
        const auto gone = [] { return listen_local().local_endpoint(); }();
        EXPECT_EQ(tcp_stream::connect(gone).error(), std::errc::connection_refused);
        EXPECT_EQ(tcp_stream::connect(gone.to_string()).error(), std::errc::connection_refused);
    });
}

TEST_P(tcp_listening, accepted_streams_send_at_once) {
    run([] {
        auto p = connect_local();
        for (auto* s : {&p.client, &p.server}) {
            int on = 0;
            socklen_t size = sizeof on;
            ASSERT_EQ(getsockopt(s->native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
            EXPECT_NE(on, 0);
            EXPECT_TRUE(fcntl(s->native_handle(), F_GETFD) & FD_CLOEXEC);
        }
    });
}

TEST_P(tcp_listening, several_tasks_accept) {
    run([] {
        auto l = listen_local();
        std::atomic<int> accepted{0};
        std::vector<mpg::task<void>> acceptors;
        for (int i = 0; i != 4; ++i)
            acceptors.push_back(mpg::spawn([&] {
                while (auto s = l.accept()) ++accepted;
            }));
        std::vector<tcp_stream> clients;
        for (int i = 0; i != 40; ++i) clients.push_back(std::move(*tcp_stream::connect(l.local_endpoint())));
        EXPECT_TRUE(eventually([&] { return accepted == 40; }));
        l.close();
        for (auto& a : acceptors) a.join();
    });
}

TEST_P(tcp_listening, out_of_descriptors_is_reported_and_passes) {
    const auto child = run_in_child([&] {
        ::rlimit limit{64, 64};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        run([] {
            auto l = listen_local();
            std::byte one;
            for (int round = 0; round != 3; ++round) {
                mpg::result<tcp_stream> c;
                {
                    descriptor_hog hog(1);
                    c = tcp_stream::connect(l.local_endpoint()); // takes the last one
                    ASSERT_TRUE(c) << c.error().message();
                    for (int i = 0; i != 3; ++i)
                        EXPECT_EQ(l.accept().error(), std::errc::too_many_files_open);
                    EXPECT_EQ(tcp_stream::connect(l.local_endpoint()).error(),
                              std::errc::too_many_files_open);
                    EXPECT_EQ(tcp_listener::bind(":0").error(), std::errc::too_many_files_open);
                }
                auto s = l.accept(); // the connection was not lost
                ASSERT_TRUE(s) << s.error().message();
                ASSERT_TRUE(s->write(bytes("x")));
                EXPECT_EQ(*c->read(std::span(&one, 1)), 1u);
            }
        });
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_EQ(child.exit_code, 0) << child;
}

TEST_P(tcp_listening, empty_and_moved_from_objects_are_closed) {
    run([] {
        tcp_listener l;
        EXPECT_EQ(l.accept().error(), errc::closed);
        EXPECT_EQ(l.native_handle(), -1);
        l.close();
        tcp_stream s;
        std::byte one;
        EXPECT_EQ(s.read(std::span(&one, 1)).error(), errc::closed);
        EXPECT_EQ(s.write(std::span(&one, 1)).error(), errc::closed);
        EXPECT_EQ(s.set_deadline(std::nullopt), errc::closed);
        EXPECT_TRUE(s.remote_endpoint().empty());
        auto p = connect_local();
        s = std::move(p.client);
        EXPECT_EQ(p.client.read(std::span(&one, 1)).error(), errc::closed); // NOLINT
        EXPECT_TRUE(s.write(std::span(&one, 1)));
        s = tcp_stream(); // closes
        EXPECT_EQ(*p.server.read(std::span(&one, 1)), 1u);
        EXPECT_EQ(*p.server.read(std::span(&one, 1)), 0u);
    });
}
