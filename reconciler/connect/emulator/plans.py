"""The three plans of the seed ("Planos Disponíveis"), as Connect sends them: cents, and MB of 1,000 to the GB."""

from __future__ import annotations

from typing import Any


def _plan(
    word: str, description: str, price: int, features: tuple[str, ...], limits: tuple[int, int, int]
) -> dict[str, Any]:
    users, conversations, storage = limits
    return {
        "id": f"plan_{word}",
        "name": word.capitalize(),
        "description": description,
        "price": price,
        "currency": "BRL",
        "billingInterval": "monthly",
        "features": list(features),
        "maxUsers": users,
        "maxConversations": conversations,
        "storageLimit": storage,
        "isActive": True,
        "stripeProductId": f"prod_{word}",
        "stripePriceId": f"price_{word}",
    }


def seed_plans() -> list[dict[str, Any]]:
    return [
        _plan(
            "starter",
            "Basic plan for small businesses",
            2900,
            ("basic_chat", "email_support"),
            (2, 50, 500),
        ),
        _plan(
            "professional",
            "Advanced chat and chatbot for growing businesses",
            9900,
            ("advanced_chat", "ai_chatbot", "priority_support", "analytics"),
            (10, 500, 5000),
        ),
        _plan(
            "enterprise",
            "Everything, for large businesses",
            29900,
            ("full_chat", "advanced_ai_agent", "whatsapp_integration", "white_label", "support_24_7"),
            (50, 2000, 20000),
        ),
    ]
