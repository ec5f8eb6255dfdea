// TCP: a server that sends back what it gets, one task for each connection; and a client.
#include <mpg/mpg.hpp>
#include <mpg/net.hpp>

#include <array>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

namespace {

void echo(mpg::net::tcp_stream peer) {
    std::array<std::byte, 4096> buffer;
    while (true) {
        const auto n = peer.read(buffer);
        if (!n || *n == 0) return; // an error, or the client has closed: the stream closes with peer
        if (!peer.write(std::span(buffer).first(*n))) return;
    }
}

} // namespace

int main() {
    return mpg::run([] {
        auto listener = mpg::net::tcp_listener::bind("127.0.0.1:0");
        if (!listener) {
            std::fprintf(stderr, "bind: %s\n", listener.error().message().c_str());
            return 1;
        }
        mpg::go([&] {
            while (auto peer = listener->accept()) mpg::go(echo, std::move(*peer));
        });

        auto client = mpg::net::tcp_stream::connect(listener->local_endpoint().to_string());
        if (!client) {
            std::fprintf(stderr, "connect: %s\n", client.error().message().c_str());
            return 1;
        }
        const std::string_view hello = "hello\n";
        std::array<std::byte, 64> answer;
        (void)client->write(std::as_bytes(std::span(hello)));
        const auto n = client->read(answer);
        if (!n) return 1;
        std::printf("the server says: %.*s", static_cast<int>(*n),
                    reinterpret_cast<const char*>(answer.data()));
        return 0; // the other tasks end with the runtime: see mpg::run
    });
}
