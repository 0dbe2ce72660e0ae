"""Everything that communicates with Caddy: the shop asks for a barcode, answers the order check, and is told what happened to a
payment. It is what an existing shop copies. `orders` is the shop's own database."""

import base64
import hmac
import json
import os
import re
import time

import requests
from flask import Blueprint, jsonify, request

import orders

gateway = Blueprint("gateway", __name__)

CVS_URL = os.environ.get("CVS_URL", "http://127.0.0.1:8081")


# ---- 1. Ask ----
def ask(order):
    """Gets the order's barcode. It may be called again at any time, after a time-out or when the page is reloaded: Caddy answers
    with the order's one barcode. So the shop needs no lock. The deadline is the order's own, the same each time, because the
    answer does not contain it."""
    with requests.Session() as session:
        session.trust_env = False  # the gateway is on this machine, whatever HTTP_PROXY says
        answer = session.post(
            f"{CVS_URL}/cvs",
            json={
                "merchant_uid": order["id"],
                "amount": order["amount"],
                "name": order["name"],
                "expired_at": order["expires"],
            },
            timeout=15,  # longer than Caddy takes, so that its answer arrives first
        ).json()
    payment = answer["response"] or {}
    if answer["code"] != 0 or not payment.get("vbank_num"):
        raise ValueError(answer["message"] or "the answer has no barcode")
    orders.issued(order["id"], payment["imp_uid"], payment["vbank_num"])


# ---- 2. Check ----
@gateway.post("/orders/<order_id>/payable")
def payable(order_id):
    """Caddy asks this while the customer stands at the till, and compares the total with the barcode's amount. It may ask twice.
    Whoever is told yes has his item: it is taken out of the stock here, for two tills may ask at once for the last one. It goes
    back when the barcode expires. If the database fails, Flask answers 500, and the till takes no money."""
    order = orders.find(order_id)
    reason = refusal(order, request.headers.get("X-Cvs-Imp-Uid"))
    if reason:
        return jsonify(payable=False, reason=reason), 409
    return jsonify(payable=True, total=order["amount"])


def refusal(order, imp_uid):
    if order is None:
        return "없는 주문입니다"
    if order["state"] == "paid":
        return "이미 결제된 주문입니다"
    if order["state"] == "cancelled":
        return "환불된 주문입니다"
    if order["state"] == "expired":
        return "결제 기한이 지났습니다"
    if order["imp_uid"] is None or order["imp_uid"] != imp_uid:
        return "다른 바코드로 결제해 주세요"
    return None if orders.hold(order["id"]) else "품절되었습니다"


# ---- 3. Told ----
SECRET = base64.b64decode(os.environ["CVS_TELL_SECRET"].removeprefix("whsec_"), validate=True)
if len(SECRET) < 24:
    raise SystemExit("CVS_TELL_SECRET is whsec_ and at least 24 bytes in base64")


def genuine(headers, body):
    """Verifies a signature of the Standard Webhooks. An old message could be somebody's repetition."""
    sent_at = headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(time.time() - int(sent_at)) > 300:
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent_at}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(SECRET, signed, "sha256"))
    signatures = headers.get("webhook-signature", "").split(" ")  # several while the secret is changed
    return any(hmac.compare_digest(s.encode(), expected) for s in signatures)


def parse(body):
    """Returns None for what is no message. An exception would be a 500, and Caddy would take the whole shop for down."""
    try:
        news = json.loads(body)
    except ValueError:
        return None
    return news if isinstance(news, dict) and isinstance(news.get("merchant_uid"), str) else None


@gateway.post("/payments/<order_id>")
def told(order_id):
    """Caddy tells what happened to a payment until it is answered {"heard":true}, so the shop may be told twice: each event
    changes only an order that it has not changed yet. The order number is the body's: the signature does not cover the path."""
    body = request.get_data()  # the bytes as they came, not JSON that was written anew
    if not genuine(request.headers, body):
        return jsonify(reason="서명이 올바르지 않습니다"), 401
    news = parse(body)
    if news is None:
        return jsonify(reason="내용을 읽을 수 없습니다"), 400
    if news.get("test"):  # from caddy cvs trigger, about no payment
        return jsonify(heard=True)
    order = orders.find(news["merchant_uid"])
    if order is None:
        return jsonify(reason="없는 주문입니다"), 404
    if news.get("amount") != order["amount"]:
        return jsonify(reason="금액이 주문과 다릅니다"), 409
    if news["event"] == "paid":
        orders.paid(order["id"], news["imp_uid"], news["paid_at"])
    elif news["event"] == "cancelled":
        orders.cancelled(order["id"], news["imp_uid"], news["cancel_amount"])
    elif news["event"] == "expired":
        orders.expired(order["id"], news["imp_uid"])
    return jsonify(heard=True)  # only now, when it is committed
