// One side of TLS without any I/O: bytes go in, bytes come out, and OpenSSL is between.
//
// OpenSSL reads from and writes to a BIO of ours that stands on two buffers in memory and never waits; so no
// call into OpenSSL suspends, and none of its locks nor its thread's error queue is held across a suspension.
// Functions of users are not called from inside OpenSSL either: a server that wants its certificate chosen
// makes OpenSSL pause (want_choice), the lines of the key log are collected.
//
// Where the kernel encrypts what is written (hand_over, kTLS), OpenSSL goes on reading. What it still
// wants to write goes nowhere but for alerts, whose plain bytes then stand in output().
//
// An engine is no monitor: see connection.hpp for who may call what when.
#pragma once

#include <mpg/net/address.hpp>
#include <mpg/tls/config.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/handles.hpp>
#include <mpg/tls/kernel_tls.hpp>
#include <mpg/tls/state.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::tls::detail {

/// What has come from the peer and OpenSSL has not taken. OpenSSL takes all before it asks for more, so it is
/// empty whenever it is filled.
class input {
  public:
    /// Where to put what comes; small until a read has filled it.
    std::span<std::byte> room() {
        const std::size_t wanted = busy_ ? large : small;
        if (!data_ || capacity_ != wanted) {
            data_.reset(new std::byte[wanted]);
            capacity_ = wanted;
        }
        begin_ = end_ = 0;
        return {data_.get(), capacity_};
    }
    void filled(std::size_t n) noexcept {
        end_ = n;
        busy_ = n == capacity_ || (busy_ && n > small);
        if (n == 0) ended_ = true;
    }
    std::size_t take(std::byte* to, std::size_t most) noexcept {
        const std::size_t n = std::min(most, end_ - begin_);
        if (n != 0) std::memcpy(to, data_.get() + begin_, n);
        begin_ += n;
        return n;
    }
    bool empty() const noexcept { return begin_ == end_; }
    bool ended() const noexcept { return ended_; }

  private:
    static constexpr std::size_t small = 4096, large = 33 << 10; // two whole records

    std::unique_ptr<std::byte[]> data_;
    std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
    bool busy_ = false, ended_ = false;
};

class engine {
  public:
    /// ok: done. want_input: call filled() and try again. want_choice: call choose() and try again. end: the
    /// peer has said that nothing more comes. failed: error() says why, for good.
    enum class progress { ok, want_input, want_choice, end, failed };

    /// server_name: of a client, what to ask for and to verify. session_key: of a client, under which its
    /// sessions are kept; empty: they are not.
    engine(std::shared_ptr<const config_state> c, std::string server_name, std::string session_key);
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    progress handshake();
    progress read(std::span<std::byte> to, std::size_t& n);
    /// All of it; what comes out stands in output(). data is not empty.
    progress write(std::span<const std::byte> data);
    /// Says that nothing more comes from here.
    void write_end() noexcept;

    /// Why it failed. Does not change once something has returned `failed`.
    std::error_code error() const noexcept { return error_; }
    void fail(std::error_code why) noexcept {
        if (!error_) error_ = why;
    }
    input& in() noexcept { return in_; }
    /// To be sent, in this order; the caller takes it away. Records; after hand_over alerts, of two bytes
    /// each.
    std::string& output() noexcept { return out_; }
    /// Whether a read may get something without further input.
    bool has_input() const noexcept { return !in_.empty() || SSL_has_pending(ssl_.get()) == 1; }
    std::string& key_log() noexcept { return key_log_; }
    /// After a handshake, with output() sent: what the kernel needs to write the next record.
    kernel_keys keys() const noexcept { return kernel_keys(ssl_.get(), secret_, written_); }
    /// From now on the kernel encrypts. No write() after that.
    void hand_over() noexcept { handed_over_ = true; }
    /// Ends the wait for that: the secret is not needed any more.
    void forget_secret() noexcept { secret_.forget(); }

    /// After a handshake.
    connection_state state() const;
    /// What the client has asked for; valid until the next call.
    client_hello hello() const noexcept { return {requested_name()}; }
    void choose(certificate c) { chosen_ = std::move(c); }
    void choose_none(std::error_code why) noexcept { refused_ = why; }
    const config_state& settings() const noexcept { return *config_; }

  private:
    friend struct callbacks;

    progress judge(int returned);
    std::string_view requested_name() const noexcept {
        const char* n = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
        return n ? n : "";
    }
    bool use(const certificate& c) noexcept {
        const identity& i = c.get();
        return SSL_use_cert_and_key(ssl_.get(), i.leaf.get(), i.key.get(), i.chain.get(), 1) == 1;
    }
    int provide_certificate() noexcept;
    std::error_code set_up_client(const std::string& name);

    const std::shared_ptr<const config_state> config_;
    const std::string session_key_;
    input in_;
    std::string out_, key_log_;
    std::optional<certificate> chosen_;
    std::error_code refused_, error_;
    traffic_secret secret_;     // of what is written here; where config_->ktls
    std::uint64_t written_ = 0; // records under that secret
    bool handed_over_ = false;
    ssl_ptr ssl_; // the last one: it calls back into the others
};

/// What OpenSSL calls. All of them run inside one of the engine's calls.
struct callbacks {
    static engine& of(const SSL* ssl) noexcept { return *static_cast<engine*>(SSL_get_app_data(ssl)); }
    static engine& of(BIO* b) noexcept { return *static_cast<engine*>(BIO_get_data(b)); }

    static int bio_write(BIO* b, const char* data, int n) noexcept {
        BIO_clear_retry_flags(b);
        if (of(b).handed_over_) return n; // see message
        try {
            of(b).out_.append(data, static_cast<std::size_t>(n));
        } catch (const std::bad_alloc&) {
            return -1;
        }
        return n;
    }
    static int bio_read(BIO* b, char* to, int most) noexcept {
        BIO_clear_retry_flags(b);
        input& in = of(b).in_;
        const std::size_t n = in.take(reinterpret_cast<std::byte*>(to), static_cast<std::size_t>(most));
        if (n != 0) return static_cast<int>(n);
        if (in.ended()) return 0;
        BIO_set_retry_read(b);
        return -1;
    }
    static long bio_control(BIO* b, int what, long, void*) noexcept {
        switch (what) {
        case BIO_CTRL_FLUSH:
            return 1;
        case BIO_CTRL_EOF:
            return of(b).in_.ended() && of(b).in_.empty();
        default:
            return 0;
        }
    }
    static const BIO_METHOD* bio_method() {
        static BIO_METHOD* const method = [] {
            BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mpg");
            if (!m) throw std::bad_alloc();
            BIO_meth_set_write(m, bio_write);
            BIO_meth_set_read(m, bio_read);
            BIO_meth_set_ctrl(m, bio_control);
            return m;
        }();
        return method;
    }

    static int certificate_wanted(SSL* ssl, void*) noexcept { return of(ssl).provide_certificate(); }
    /// Takes the name, so that the server's answer says so.
    static int name_requested(SSL*, int*, void*) noexcept { return SSL_TLSEXT_ERR_OK; }
    /// The first of ours that the client knows, too; as in Go, a client that knows none is refused.
    static int choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* length,
                               const unsigned char* in, unsigned n, void*) noexcept {
        const std::string& ours = of(ssl).config_->alpn;
        unsigned char* chosen = nullptr;
        if (SSL_select_next_proto(&chosen, length, reinterpret_cast<const unsigned char*>(ours.data()),
                                  static_cast<unsigned>(ours.size()), in, n) != OPENSSL_NPN_NEGOTIATED)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
    }
    /// 1: the session is ours now.
    static int session_made(SSL* ssl, SSL_SESSION* s) noexcept {
        engine& e = of(ssl);
        if (e.session_key_.empty()) return 0;
        try {
            e.config_->kept.put(e.session_key_, session_ptr(s));
        } catch (const std::bad_alloc&) { // it has been freed
        }
        return 1;
    }
    static int ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                          EVP_MAC_CTX* mac, int encrypt) noexcept {
        try {
            return of(ssl).config_->tickets.prepare(ssl, name, iv, cipher, mac, encrypt != 0);
        } catch (const std::bad_alloc&) {
            return -1;
        }
    }
    static void key_made(const SSL* ssl, const char* line) noexcept {
        engine& e = of(ssl);
        const std::string_view text = line;
        if (e.config_->ktls &&
            text.starts_with(e.config_->server ? "SERVER_TRAFFIC_SECRET_0 " : "CLIENT_TRAFFIC_SECRET_0 ")) {
            e.secret_.read(text.substr(text.rfind(' ') + 1));
            e.written_ = 0;
        }
        if (!e.config_->key_log) return;
        try {
            (e.key_log_ += text) += '\n';
        } catch (const std::bad_alloc&) {
        }
    }
    /// Sees messages in plain: what OpenSSL writes, also the head of each record, and what it reads.
    static void message(int is_written, int, int type, const void* data, std::size_t n, SSL* ssl,
                        void*) noexcept {
        engine& e = of(ssl);
        if (is_written && type == SSL3_RT_HEADER) ++e.written_;
        if (!e.handed_over_) return;
        const auto* bytes = static_cast<const char*>(data);
        const auto tell = [&](const char* alert) noexcept {
            try {
                e.out_.append(alert, 2);
            } catch (const std::bad_alloc&) {
            }
        };
        if (is_written && type == SSL3_RT_ALERT && n == 2) tell(bytes);
        if (!is_written && type == SSL3_RT_HANDSHAKE && n == 5 && bytes[0] == SSL3_MT_KEY_UPDATE &&
            bytes[4] == SSL_KEY_UPDATE_REQUESTED && !e.error_) {
            constexpr char internal_error[] = {SSL3_AL_FATAL, SSL_AD_INTERNAL_ERROR};
            tell(internal_error);
            e.fail(errc::new_keys);
        }
    }
};

inline engine::engine(std::shared_ptr<const config_state> c, std::string server_name, std::string session_key)
    : config_(std::move(c))
    , session_key_(std::move(session_key)) {
    ERR_clear_error();
    ssl_.reset(SSL_new(config_->ctx.get()));
    BIO* const bio = ssl_ ? BIO_new(callbacks::bio_method()) : nullptr;
    if (!bio) throw std::bad_alloc();
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio); // owns it, once
    SSL_set_app_data(ssl_.get(), this);
    if (config_->ktls) SSL_set_msg_callback(ssl_.get(), callbacks::message);
    if (config_->server)
        SSL_set_accept_state(ssl_.get());
    else
        error_ = set_up_client(server_name);
    ERR_clear_error();
}

inline std::error_code engine::set_up_client(const std::string& name) {
    SSL* const ssl = ssl_.get();
    SSL_set_connect_state(ssl);
    net::endpoint address;
    const bool is_address = net::detail::parse_host(name, 0, address);
    if (config_->verify == verification::full) {
        if (name.empty()) return errc::no_server_name;
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        const std::string bare = name.substr(0, name.find('%')); // no certificate knows of zones
        if ((is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), bare.c_str())
                        : SSL_set1_host(ssl, name.c_str())) != 1)
            return take_error();
    }
    if (!name.empty() && !is_address && SSL_set_tlsext_host_name(ssl, name.c_str()) != 1) return take_error();
    if (!session_key_.empty())
        if (const session_ptr s = config_->kept.take(session_key_)) SSL_set_session(ssl, s.get());
    return {};
}

/// 1: go on; 0: the handshake fails; -1: pause.
inline int engine::provide_certificate() noexcept {
    const config_state& c = *config_;
    if (c.choose) {
        if (refused_) return 0;
        if (!chosen_) return -1;
        return use(*chosen_);
    }
    if (c.certificates.empty()) return !c.server;
    if (c.certificates.size() == 1) return use(c.certificates.front().get());
    const std::string_view name = requested_name();
    bool any = false;
    for (const certificate_source& s : c.certificates) {
        const certificate candidate = s.get();
        if (name.empty() || !candidate.get().is_for(name)) continue;
        if (!use(candidate)) return 0;
        any = true;
    }
    return any || use(c.certificates.front().get());
}

/// What a call of OpenSSL that did not succeed means. In the same section.
inline engine::progress engine::judge(int returned) {
    switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
        return progress::want_input;
    case SSL_ERROR_WANT_X509_LOOKUP:
        return progress::want_choice;
    case SSL_ERROR_ZERO_RETURN:
        return progress::end;
    default:
        break;
    }
    const std::error_code e = take_error();
    if (error_) return progress::failed;
    error_ = e;
    if (refused_) {
        error_ = refused_;
    } else if (e.category() == category() &&
               ERR_GET_REASON(static_cast<unsigned long>(e.value())) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        const long why = SSL_get_verify_result(ssl_.get());
        if (why != X509_V_OK) error_ = {static_cast<int>(why), verify_category()};
    } else if (e == errc::failed && in_.ended()) {
        error_ = errc::truncated;
    }
    return progress::failed;
}

inline engine::progress engine::handshake() {
    if (error_) return progress::failed;
    ERR_clear_error();
    const int r = SSL_do_handshake(ssl_.get());
    return r == 1 ? progress::ok : judge(r);
}

inline engine::progress engine::read(std::span<std::byte> to, std::size_t& n) {
    if (error_) return progress::failed;
    ERR_clear_error();
    const int r = SSL_read_ex(ssl_.get(), to.data(), to.size(), &n);
    return r == 1 ? progress::ok : judge(r);
}

inline engine::progress engine::write(std::span<const std::byte> data) {
    if (error_) return progress::failed;
    ERR_clear_error();
    std::size_t n = 0;
    const int r = SSL_write_ex(ssl_.get(), data.data(), data.size(), &n);
    return r == 1 ? progress::ok : judge(r);
}

inline void engine::write_end() noexcept {
    if (error_) return;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
}

inline connection_state engine::state() const {
    SSL* const ssl = ssl_.get();
    connection_state s;
    s.version = static_cast<version>(SSL_version(ssl));
    if (const char* name = SSL_get_cipher_name(ssl)) s.cipher = name;
    const unsigned char* alpn = nullptr;
    unsigned n = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &n);
    s.alpn.assign(reinterpret_cast<const char*>(alpn), n);
    s.server_name = requested_name();
    s.peer = peer_certificate(x509_ptr(SSL_get1_peer_certificate(ssl)));
    s.resumed = SSL_session_reused(ssl) == 1;
    s.verified =
        s.peer && (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) && SSL_get_verify_result(ssl) == X509_V_OK;
    ERR_clear_error();
    return s;
}

} // namespace mpg::tls::detail
