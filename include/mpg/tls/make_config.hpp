// How a configuration is made.
#pragma once

#include <mpg/tls/config.hpp>
#include <mpg/tls/engine.hpp>

namespace mpg::tls {

inline result<config> config::client(client_options options) {
    auto s = std::make_shared<detail::config_state>(false, options.sessions);
    ERR_clear_error();
    s->ctx.reset(SSL_CTX_new(TLS_client_method()));
    if (!s->ctx) return unexpected(detail::take_error());
    if (const std::error_code e = set_up(*s, options)) return unexpected(e);
    SSL_CTX* const ctx = s->ctx.get();
    s->server_name = std::move(options.server_name);
    s->verify = options.verify;
    if (s->verify != verification::none) {
        if (!options.roots) {
            auto all = roots::system();
            if (!all) return unexpected(all.error());
            options.roots = std::move(*all);
        }
        SSL_CTX_set1_cert_store(ctx, options.roots->native_handle());
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);
    }
    if (!s->alpn.empty() &&
        SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(s->alpn.data()),
                                static_cast<unsigned>(s->alpn.size())) != 0)
        return unexpected(detail::take_error());
    if (options.certificate) {
        s->certificates.push_back(std::move(*options.certificate));
        SSL_CTX_set_cert_cb(ctx, detail::callbacks::certificate_wanted, nullptr);
    }
    if (s->kept.keeps_any()) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, detail::callbacks::session_made);
    } else {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    }
    if (s->key_log || s->ktls) SSL_CTX_set_keylog_callback(ctx, detail::callbacks::key_made);
    ERR_clear_error();
    return config(std::move(s));
}

inline result<config> config::server(server_options options) {
    if (options.certificates.empty() && !options.choose)
        return unexpected(make_error_code(errc::no_certificate));
    if (options.client != client_certificates::none && !options.client_roots)
        return unexpected(std::make_error_code(std::errc::invalid_argument));
    auto s = std::make_shared<detail::config_state>(true, 0);
    ERR_clear_error();
    s->ctx.reset(SSL_CTX_new(TLS_server_method()));
    if (!s->ctx) return unexpected(detail::take_error());
    if (const std::error_code e = set_up(*s, options)) return unexpected(e);
    SSL_CTX* const ctx = s->ctx.get();
    s->certificates = std::move(options.certificates);
    s->choose = std::move(options.choose);
    SSL_CTX_set_cert_cb(ctx, detail::callbacks::certificate_wanted, nullptr);
    SSL_CTX_set_tlsext_servername_callback(ctx, detail::callbacks::name_requested);
    if (!s->alpn.empty()) SSL_CTX_set_alpn_select_cb(ctx, detail::callbacks::choose_protocol, nullptr);
    if (options.client != client_certificates::none) {
        SSL_CTX_set1_cert_store(ctx, options.client_roots->native_handle());
        const bool must = options.client == client_certificates::require;
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (must ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
        // Browsers show their user the certificates of these.
        if (const detail::chain_ptr all{X509_STORE_get1_all_certs(options.client_roots->native_handle())})
            for (int i = 0; i < sk_X509_num(all.get()); ++i)
                SSL_CTX_add_client_CA(ctx, sk_X509_value(all.get(), i));
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    const unsigned char name[] = "mpg";
    SSL_CTX_set_session_id_context(ctx, name, sizeof name - 1);
    if (options.resume) {
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, detail::callbacks::ticket_key);
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    if (s->key_log || s->ktls) SSL_CTX_set_keylog_callback(ctx, detail::callbacks::key_made);
    ERR_clear_error();
    return config(std::move(s));
}

} // namespace mpg::tls
