# Make the credentials of the glance command from those of Nova. To be read by a shell, not run:
#
#     . /etc/glance/nova-to-os-env.sh
#
# A variable of Nova that is unset leaves its counterpart as it is.

for _pair in NOVA_USERNAME:OS_AUTH_USER NOVA_API_KEY:OS_AUTH_KEY NOVA_PROJECT_ID:OS_AUTH_TENANT \
    NOVA_URL:OS_AUTH_URL NOVA_AUTH_STRATEGY:OS_AUTH_STRATEGY; do
    # The names stand above, so nothing of the values is ever run by eval.
    eval "[ -z \"\${${_pair%%:*}+set}\" ] || export ${_pair##*:}=\"\${${_pair%%:*}}\""
done
unset _pair
