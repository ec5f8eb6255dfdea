#include <mpg/http.hpp>
#include <mpg/net.hpp>
#include <mpg/task.hpp>

#include <string>

bool asks();

// A server and its clients.
bool asks() {
    mpg::http::server server;
    server.handle("GET /", [](mpg::http::request& q, mpg::http::response& r) { r.write(q.path()); });
    auto listener = mpg::net::tcp_listener::bind("127.0.0.1:0");
    if (!listener) return false;
    const std::string url = "http://" + listener->local_endpoint().to_string() + "/a";
    auto served = mpg::spawn([&] { return server.serve(*listener); });
    mpg::http::client client, other({.max_idle = 1});
    auto first = client.get(url), second = other.fetch({.url = url}), third = mpg::http::get(url);
    const bool ok = first && first->body().read_all() == "/a" && second && second->status() == 200 && third;
    server.close();
    return served.join() == mpg::errc::server_closed && ok;
}
